"""Take the pictures of docs/images in a running `make demo`: screenshots.py LOGIN_URL STATUS_URL."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from maskloop.demo.project import IMAGES
from maskloop.demo.run import EMAIL, PASSWORD

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.e2e.conftest import CHROME  # noqa: E402
from tests.e2e.editor import Editor  # noqa: E402

PICTURES = ROOT / "docs" / "images"


def shoot(page: Page, name: str, height: int = 900) -> None:
    """A screenshot small enough for a README: 256 colours."""
    file = PICTURES / f"{name}.png"
    page.screenshot(path=file, clip={"x": 0, "y": 0, "width": 1400, "height": height})
    Image.open(file).convert("RGB").quantize(256).save(file, optimize=True)


def main(login_url: str, status_url: str) -> None:
    parts = urlsplit(login_url)
    target = parse_qs(parts.query)["next"][0]
    project, task = int(target.split("/")[2]), int(target.rpartition("=")[2])
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROME, headless=True)
        page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
        editor = Editor(page, f"{parts.scheme}://{parts.netloc}")
        editor.log_in(EMAIL, PASSWORD)
        editor.open(project, task + IMAGES.index("camera.png"))
        editor.delete_all()
        editor.point(40, 50, label=2)
        shoot(page, "click")
        editor.open(project, task + IMAGES.index("coffee.png"))
        editor.delete_all()
        editor.box(26, 3, 73, 68)
        editor.point(50, 62, through=True)
        editor.point(55, 45, through=True)
        shoot(page, "corrected")
        editor.accept()
        editor.submit()
        page.wait_for_timeout(5000)  # the status page counts it
        page.goto(status_url)
        shoot(page, "status", 700)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
