"""The demo's project: one labeling configuration, and photographs that come with scikit-image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maskloop.demo.account import Account

TITLE = "MaskLoop demo"

CONFIG = """\
<View>
  <Image name="image" value="$image" zoom="true"/>
  <KeyPointLabels name="point" toName="image" smart="true">
    <Label value="Object" hotkey="1" background="#e8590c"/>
    <Label value="Animal" hotkey="2" background="#2b8a3e"/>
    <Label value="Person" hotkey="3" background="#1864ab"/>
  </KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true">
    <Label value="Object" hotkey="4" background="#e8590c"/>
    <Label value="Animal" hotkey="5" background="#2b8a3e"/>
    <Label value="Person" hotkey="6" background="#1864ab"/>
  </RectangleLabels>
  <BrushLabels name="mask" toName="image" smart="false">
    <Label value="Object" hotkey="7" background="#e8590c"/>
    <Label value="Animal" hotkey="8" background="#2b8a3e"/>
    <Label value="Person" hotkey="9" background="#1864ab"/>
  </BrushLabels>
</View>
"""
"""Points and boxes ask, brushes hold the answer; the same label names in all three."""

IMAGES = (
    "coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg", "coins.png", "motorcycle_left.png",
    "ihc.png", "hubble_deep_field.jpg", "camera.png", "horse.png",
)  # fmt: skip
"""Bundled with scikit-image: public domain, or CC0 by the photographer."""


def images() -> Iterator[tuple[str, bytes]]:
    """Name and content of the sample images."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    for name in IMAGES:
        yield name, (folder / name).read_bytes()


def find_or_create(account: Account) -> int:
    """The demo project's id; made and filled the first time."""
    for project in account.call("GET", "/api/projects/?page_size=1000")["results"]:
        if project["title"] == TITLE:
            return int(project["id"])
    project_id = account.create_project(TITLE, CONFIG)
    for name, content in images():
        account.upload(project_id, name, content)
    return project_id
