"""Label Studio's labeling editor as an annotator uses it: tools, labels, clicks, the tick.

Positions are percent of the image, x before y, as Label Studio sends them. What is asserted
about the outcome is read where it counts: from the request the browser really sent, from the
annotation the editor would submit, and from the pixels on its canvas.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, Request

from tests.e2e.answer import Answer, Mask

AUTOSAVE_MS = 6500
"""The editor saves a draft 5 s after the first change: longer than that."""

STORE = "Htx.annotationStore.selected"

# Each brush region paints a canvas of its own; a mask is on the screen when that canvas is not empty.
PAINTED = f"""() => {{
  const regions = [...{STORE}.suggestions.values()].filter(region => region.type === 'brushregion');
  return regions.map(region => {{
    const canvas = region.layerRef?.canvas?._canvas;
    if (!canvas?.width) return 0;
    const alpha = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 3; i < alpha.length; i += 4) count += alpha[i] > 8;
    return count;
  }});
}}"""

STAGE = f"""() => {{
  const image = {STORE}.objects[0], frame = image.stageRef.container().getBoundingClientRect();
  return {{x: frame.x + image.stageRef.x(), y: frame.y + image.stageRef.y(),
          width: image.stageWidth * image.stageRef.scaleX(), height: image.stageHeight * image.stageRef.scaleY()}};
}}"""

READY = """() => {
  const image = window.Htx?.annotationStore?.selected?.objects?.[0];
  return image && image.naturalWidth > 1 && image.stageRef && document.querySelector('.konvajs-content canvas');
}"""

TOOLS = {"point": ("key-point-tool", "KeyPointTool-dynamic"), "box": ("rectangle-tool", "RectangleTool-dynamic")}


class Editor:
    def __init__(self, page: Page, url: str, patience: float = 90) -> None:
        self.page, self.url, self.patience = page, url, patience
        page.set_default_timeout(patience * 1000)
        self.answers: list[Answer] = []
        self.errors: list[str] = []
        """JavaScript exceptions of the page."""
        page.on("pageerror", lambda error: self.errors.append(str(error)[:300]))
        page.on("requestfinished", self._finished)

    def _finished(self, request: Request) -> None:
        if "/interactive-annotating" not in request.url:
            return
        response = request.response()
        body = response.json() if response else {}
        asked = json.loads(request.post_data or "{}")["context"]["result"]
        data = body.get("data") or {}
        regions = data.get("result") if isinstance(data, dict) else None
        version = data.get("model_version") if isinstance(data, dict) else None
        self.answers.append(Answer(asked, regions or [], body.get("errors") or [], version or ""))

    # ---- opening and leaving

    def log_in(self, email: str, password: str) -> None:
        self.page.goto(f"{self.url}/user/login/")
        self.page.fill("input[name=email]", email)
        self.page.fill("input[name=password]", password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "/user/login" not in url)

    def open(self, project: int, task: int, *, auto_accept: bool = False) -> None:
        """Open a task, with the smart tools on."""
        self.page.goto(f"{self.url}/projects/{project}/data?task={task}")
        self.wait_for(READY)
        self.page.wait_for_timeout(800)  # the editor lays out the stage once more after the image is there
        self._toggle("bottombar-auto-annotation-toggle", "autoAnnotation", True)
        self._toggle("bottombar-auto-accept-toggle", "autoAcceptSuggestions", auto_accept)

    def submit(self) -> None:
        with self._saves("POST", r"/api/tasks/\d+/annotations"):
            self.page.locator("button", has_text="Submit").first.click()

    def update(self) -> None:
        with self._saves("PATCH", r"/api/annotations/\d+"):
            self.page.locator("button", has_text="Update").first.click()

    def let_draft_save(self) -> None:
        self.page.wait_for_timeout(AUTOSAVE_MS)

    # ---- prompts

    def point(self, x: float, y: float, *, label: int = 0, negative: bool = False, through: bool = False) -> Answer:
        """Click with the smart point tool.

        Args:
            label: which label of the control, counted from 0.
            negative: hold Alt.
            through: hold Ctrl, which clicks through whatever is under the pointer.
        """
        self.choose("point", label)
        return self.click(x, y, negative=negative, through=through)

    def click(self, x: float, y: float, *, negative: bool = False, through: bool = False) -> Answer:
        """One click with the tool and label that are chosen."""
        answer = self.click_silently(x, y, negative=negative, through=through)
        assert answer is not None, "the click sent no request"
        return answer

    def click_silently(self, x: float, y: float, *, negative: bool = False, through: bool = False) -> Answer | None:
        """Like :meth:`click`, for clicks that may send nothing: then None."""
        keys = ["Control"] * through + ["Alt"] * negative

        def gesture() -> None:
            for key in keys:
                self.page.keyboard.down(key)
            self.page.mouse.move(*self.at(x, y))
            self.page.mouse.click(*self.at(x, y))
            for key in reversed(keys):
                self.page.keyboard.up(key)

        return self._after(gesture)

    def box(self, x0: float, y0: float, x1: float, y1: float, *, label: int = 0) -> Answer:
        """Drag a box with the smart rectangle tool."""
        self.choose("box", label)

        def gesture() -> None:
            self.page.mouse.move(*self.at(x0, y0))
            self.page.mouse.down()
            self.page.mouse.move(*self.at((x0 + x1) / 2, (y0 + y1) / 2), steps=4)
            self.page.mouse.move(*self.at(x1, y1), steps=4)
            self.page.mouse.up()

        answer = self._after(gesture)
        assert answer is not None, "the box sent no request"
        return answer

    def choose(self, control: str, label: int = 0) -> None:
        """Take the smart tool of a control and one of its labels (the editor drops the label after each region)."""
        self._take_tool(*TOOLS[control])
        selected = f"() => !!{STORE}.names.get('{control}').children[{label}].selected"
        if not self.page.evaluate(selected):
            index = self.page.evaluate(
                f"() => {{ const labels = [...{STORE}.names.values()].filter(tag => tag.type.endsWith('labels'));"
                f" const before = labels.slice(0, labels.findIndex(tag => tag.name === '{control}'));"
                f" return before.reduce((sum, tag) => sum + tag.children.length, {label}); }}"
            )
            self.page.locator(".lsf-label").nth(index).click()
            self.wait_for(selected)

    # ---- what to do with the suggestion

    def accept(self) -> None:
        self._press("bottombar-accept-suggestions-button")

    def reject(self) -> None:
        self._press("bottombar-reject-suggestions-button")

    def undo(self, times: int = 1) -> None:
        for _ in range(times):
            self.page.keyboard.press("Control+z")
            self.page.wait_for_timeout(400)

    def escape(self) -> None:
        self.page.keyboard.press("Escape")
        self.page.wait_for_timeout(200)

    def drop_prompts(self) -> None:
        """Remove smart points and boxes that wait for an answer."""
        self.page.evaluate(f"() => {STORE}.deleteAllDynamicregions(true)")

    def delete_all(self) -> None:
        self.drop_prompts()
        self.page.evaluate(f"() => {STORE}.regions.slice().forEach(region => region.deleteRegion())")
        self.page.wait_for_timeout(500)

    # ---- what is there now

    def results(self) -> list[dict[str, Any]]:
        """The annotation as Submit would store it."""
        return list(self.page.evaluate(f"() => {STORE}.serializeAnnotation()"))

    def masks(self, count: int = 0) -> list[Mask]:
        """The annotation's masks, once there are ``count``; fails when anything else is in it."""
        self.wait_for(f"() => {STORE}.serializeAnnotation().length >= {count}")
        results = self.results()
        kinds = [region["type"] for region in results]
        assert set(kinds) <= {"brushlabels"}, f"only masks should be left, there are {kinds}"
        return [Mask.of(region) for region in results]

    def suggested(self) -> list[str]:
        """Ids of the regions that wait for the tick."""
        script = f"() => [...{STORE}.suggestions.values()].map(region => region.cleanId)"
        return list(self.page.evaluate(script))

    def painted_pixels(self) -> list[int]:
        """Visible canvas pixels of each suggested mask."""
        return list(self.page.evaluate(PAINTED))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Screen position of a point of the image."""
        stage = self.page.evaluate(STAGE)
        return stage["x"] + stage["width"] * x / 100, stage["y"] + stage["height"] * y / 100

    def wait_for(self, script: str) -> None:
        self.page.wait_for_function(script, timeout=self.patience * 1000)

    # ---- how

    def _after(self, gesture: Callable[[], None]) -> Answer | None:
        """The answer to a gesture, once the editor has taken it; None when it asked nothing for ten seconds."""
        before = len(self.answers)
        with self._requests() as sent:
            gesture()
            started = time.monotonic()
            while time.monotonic() < started + self.patience:
                self.page.wait_for_timeout(25)
                if not sent and time.monotonic() > started + 10:
                    return None
                waiting = self.page.evaluate("() => !!Htx.awaitingSuggestions")
                if sent and len(self.answers) >= before + len(sent) and not waiting:
                    break
            else:
                raise AssertionError(f"no answer in {self.patience:.0f} s to {sent}")
        answer = self.answers[-1]
        has_mask = any(region["type"] == "brushlabels" for region in answer.regions)
        if has_mask and not self.page.evaluate("() => Htx.autoAcceptSuggestions"):
            self.wait_for(
                f"() => {{ const painted = ({PAINTED})(); return painted.length && painted.every(n => n > 0); }}"
            )
        self.page.wait_for_timeout(100)
        return answer

    @contextmanager
    def _requests(self) -> Iterator[list[str]]:
        sent: list[str] = []

        def note(request: Request) -> None:
            if "/interactive-annotating" in request.url:
                sent.append(request.url)

        self.page.on("request", note)
        try:
            yield sent
        finally:
            self.page.remove_listener("request", note)

    @contextmanager
    def _saves(self, method: str, path: str) -> Iterator[None]:
        def saved(response: Any) -> bool:
            return response.request.method == method and re.search(path, response.url) is not None

        with self.page.expect_response(saved, timeout=self.patience * 1000) as answer:
            yield
        assert answer.value.ok, f"{method} {path}: HTTP {answer.value.status}"
        self.page.wait_for_timeout(500)

    def _press(self, test_id: str) -> None:
        self.page.get_by_test_id(test_id).click()
        self.page.wait_for_timeout(500)

    def _toggle(self, test_id: str, flag: str, wanted: bool) -> None:
        if self.page.evaluate(f"() => !!Htx.{flag}") != wanted:
            self.page.get_by_test_id(test_id).click(force=True)
        self.wait_for(f"() => !!Htx.{flag} === {str(wanted).lower()}")

    def _take_tool(self, aria: str, name: str) -> None:
        """Choose a smart tool: the only one, or one of the fly-out (a click on its button only cycles them)."""
        current = f"() => {STORE}.objects[0].getToolsManager().findSelectedTool()?.fullName"
        if self.page.evaluate(current) == name:
            return
        group = self.page.locator(".lsf-toolbar__group > button.lsf-tool_smart").first
        group.hover()
        self.page.wait_for_timeout(300)
        choice = self.page.locator(f'.lsf-toolbar__smart button[aria-label="{aria}"]')
        (choice if choice.count() else group).click()
        self.page.mouse.move(5, 5)
        self.wait_for(f"() => ({current})() === '{name}'")
