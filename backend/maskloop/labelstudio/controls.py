"""The labeling config: which tag takes masks, which labels there are, what is smart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_CHARACTERS = 1_000_000
BRUSH_TAGS = ("BrushLabels", "Brush")
POLYGON_TAGS = ("PolygonLabels", "Polygon")
PROMPT_TAGS = ("KeyPointLabels", "RectangleLabels", "KeyPoint", "Rectangle")
CONTROL_TAGS = (*BRUSH_TAGS, *POLYGON_TAGS, *PROMPT_TAGS)


class ConfigError(ValueError):
    """The labeling config cannot be read; the message says why."""


@dataclass(frozen=True)
class ImageTag:
    """``<Image name="image" value="$image"/>``; ``key`` is the key of the task's data, "image" here."""

    name: str
    key: str


@dataclass(frozen=True)
class Control:
    """A tag that makes regions on an image. ``type`` is the type its regions carry in Label Studio."""

    tag: str
    name: str
    to_name: str
    labels: tuple[str, ...] = ()
    smart: bool = True
    """Whether it has a smart tool: Label Studio's default, so the tag has to say ``smart="false"``."""
    dynamic: bool = False
    """Its labels come from the task's data, so any label may be right."""

    @property
    def type(self) -> str:
        return self.tag.lower()

    @property
    def makes_masks(self) -> bool:
        return self.tag in (*BRUSH_TAGS, *POLYGON_TAGS)

    @property
    def labelled(self) -> bool:
        return self.tag.endswith("Labels")

    @property
    def polygon(self) -> bool:
        return self.tag in POLYGON_TAGS

    def label_for(self, wanted: str | None) -> str | None:
        """The control's own label for the label of a prompt.

        None when it has no such label: the mask then comes without a label for the annotator to
        choose one, which is better than a wrong label or no mask. A control with a single
        label leaves no choice.
        """
        if not self.labelled:
            return None
        if wanted is not None and (wanted in self.labels or self.dynamic):
            return wanted
        folded = [label for label in self.labels if wanted is not None and label.casefold() == wanted.casefold()]
        if folded or len(self.labels) == 1:
            return (folded or list(self.labels))[0]
        return None


@dataclass(frozen=True)
class LabelConfig:
    """What of a labeling config concerns masks on images."""

    images: tuple[ImageTag, ...]
    controls: tuple[Control, ...]

    @staticmethod
    def parse(xml: str) -> LabelConfig:
        """The config of ``label_config``; the same text is parsed once. Raises ConfigError."""
        if len(xml) > MAX_CHARACTERS:
            raise ConfigError(f"the labeling config has {len(xml)} characters, more than {MAX_CHARACTERS}")
        return _parse(xml)

    def image(self, name: str | None = None) -> ImageTag | None:
        """The image tag of that name; without a name the one that masks are drawn on."""
        if name is None:
            output = self.output()
            name = output.to_name if output else None
        return next((tag for tag in self.images if name in (None, tag.name)), None)

    def control(self, name: str) -> Control | None:
        return next((control for control in self.controls if control.name == name), None)

    def output(self, to_name: str | None = None) -> Control | None:
        """The control that takes masks (of that image): a brush if there is one, else polygons, else None."""
        names = {tag.name for tag in self.images} if to_name is None else {to_name}
        for wanted in (*BRUSH_TAGS, *POLYGON_TAGS):
            for control in self.controls:
                if control.tag == wanted and control.to_name in names:
                    return control
        return None

    def problems(self) -> tuple[str, ...]:
        """What keeps clicks from becoming masks, in words for the person who wrote the config."""
        return tuple(_problems(self))


@lru_cache(maxsize=128)
def _parse(xml: str) -> LabelConfig:
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except ParseError as error:
        raise ConfigError(f"the labeling config is not XML: {error}") from None
    except DefusedXmlException as error:
        raise ConfigError(f"the labeling config uses a DTD or entities, which are not read: {error}") from None
    except ValueError as error:
        raise ConfigError(f"the labeling config cannot be read: {error}") from None
    images, controls = [], []
    for element in root.iter():
        name, value = element.get("name"), element.get("value") or element.get("valueList") or ""
        if element.tag == "Image" and name:
            images.append(ImageTag(name, value.removeprefix("$")))
        elif element.tag in CONTROL_TAGS and name:
            controls.append(_control(element, name))
    return LabelConfig(tuple(images), tuple(controls))


def _control(element: Element, name: str) -> Control:
    tag, smart = str(element.tag), (element.get("smart") or "").lower()
    labels = [label.get("alias") or label.get("value") or "" for label in element.iter("Label")]
    return Control(
        tag=tag,
        name=name,
        to_name=(element.get("toName") or "").split(",")[0].strip(),
        labels=tuple(label for label in labels if label),
        smart=smart != "false",
        dynamic=(element.get("value") or "").startswith("$"),
    )


def _problems(config: LabelConfig) -> Iterator[str]:
    if not config.images:
        yield 'There is no <Image name="image" value="$image"/>: MaskLoop works on images only.'
        return
    if len(config.images) > 1:
        names = ", ".join(tag.name for tag in config.images)
        yield f"There are several images ({names}): a click gets a mask on its own image, batches use the first only."
    output = config.output()
    if output is None:
        yield (
            f'No tag takes masks: add <BrushLabels name="brush" toName="{config.images[0].name}" smart="false"> '
            "with your labels (or PolygonLabels, for polygons)."
        )
        return
    prompts = [c for c in config.controls if c.tag in PROMPT_TAGS and c.to_name == output.to_name]
    if not prompts:
        yield (
            f'There is nothing to click with: add <KeyPointLabels name="point" toName="{output.to_name}" smart="true"> '
            'and <RectangleLabels name="box" ... smart="true"> with the same labels.'
        )
    for control in config.controls:
        if control.smart and control.tag in BRUSH_TAGS:
            yield (
                f'<{control.tag} name="{control.name}"> is smart: that tool is first in the menu and sends nothing. '
                'Give it smart="false", and smart="true" to KeyPointLabels and RectangleLabels.'
            )
    if prompts and not any(control.smart for control in prompts):
        names = " and ".join(f'<{control.tag} name="{control.name}">' for control in prompts)
        yield f'No smart="true" on {names}: without it a click is an ordinary region and is never sent.'
    for control in prompts:
        if not control.labelled and output.labelled:
            yield (
                f'<{control.tag} name="{control.name}"> has no labels: choosing a label of {output.tag} switches to '
                f"the {output.tag.removesuffix('Labels')} tool. Use {control.tag}Labels with the same labels."
            )
        missing = [x for x in control.labels if output.labelled and not output.dynamic and x not in output.labels]
        if missing:
            yield (
                f'{", ".join(missing)} of <{control.tag} name="{control.name}"> {"is" if len(missing) == 1 else "are"} '
                f'missing in <{output.tag} name="{output.name}">: such a mask comes '
                + (f'with its only label, "{output.labels[0]}".' if len(output.labels) == 1 else "without a label.")
            )
