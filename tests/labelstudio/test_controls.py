from __future__ import annotations

import pytest
from label_studio_sdk.label_interface import LabelInterface

from maskloop.labelstudio.controls import ConfigError, LabelConfig

from .made import CONFIG, POLYGONS, recorded


def test_finds_the_image_the_output_and_what_is_smart() -> None:
    config = LabelConfig.parse(CONFIG)
    assert [(tag.name, tag.key) for tag in config.images] == [("image", "image")]
    output = config.output()
    assert output is not None
    assert (output.tag, output.name, output.type, output.to_name) == ("BrushLabels", "brush", "brushlabels", "image")
    assert output.labels == ("Cat", "Dog")
    assert [control.name for control in config.controls if control.smart] == ["kp", "box"]
    assert config.problems() == ()


def test_polygons_are_the_output_only_without_a_brush() -> None:
    both = CONFIG.replace(
        "</View>", '<PolygonLabels name="poly" toName="image"><Label value="Cat"/></PolygonLabels></View>'
    )
    assert LabelConfig.parse(both).output().name == "brush"  # type: ignore[union-attr]
    output = LabelConfig.parse(POLYGONS).output()
    assert output is not None
    assert output.polygon
    assert output.type == "polygonlabels"


def test_agrees_with_the_sdk_on_a_recorded_config() -> None:
    xml = recorded("setup")["schema"]
    ours, theirs = LabelConfig.parse(xml), LabelInterface(xml)
    assert {control.name: set(control.labels) for control in ours.controls} == {
        control.name: set(control.labels) for control in theirs.controls
    }
    assert {control.name: control.to_name for control in ours.controls} == {
        control.name: control.to_name[0] for control in theirs.controls
    }
    assert [tag.name for tag in ours.images] == [tag.name for tag in theirs.objects]


def test_an_alias_is_the_label_that_results_carry() -> None:
    config = LabelConfig.parse(CONFIG.replace('<Label value="Dog"/>', '<Label value="Dog" alias="canis"/>'))
    output = config.output()
    assert output is not None
    assert set(output.labels) == set(
        LabelInterface(CONFIG.replace('"Dog"/>', '"Dog" alias="canis"/>')).get_control("brush").labels
    )


def brush(*labels: str, value: str = "") -> str:
    inner = "".join(f'<Label value="{label}"/>' for label in labels)
    return f'<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i"{value}>{inner}</BrushLabels></View>'


@pytest.mark.parametrize(
    ("xml", "wanted", "label"),
    [
        (brush("Cat", "Dog"), "Dog", "Dog"),
        (brush("Cat", "Dog"), "dog", "Dog"),
        (brush("Cat", "Dog"), "Bird", None),
        (brush("Cat", "Dog"), None, None),
        (brush("Cat"), "Bird", "Cat"),
        (brush("Cat"), None, "Cat"),
        (brush(value=' value="$labels"'), "Bird", "Bird"),
        ('<View><Image name="i" value="$i"/><Brush name="b" toName="i"/></View>', "Bird", None),
    ],
)
def test_a_prompts_label_becomes_one_that_the_output_has(xml: str, wanted: str | None, label: str | None) -> None:
    output = LabelConfig.parse(xml).output()
    assert output is not None
    assert output.label_for(wanted) == label


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<View/>", "no <Image"),
        ('<View><Image name="i" value="$i"/></View>', "No tag takes masks"),
        (brush("Cat"), "nothing to click with"),
        (CONFIG.replace('smart="false"', 'smart="true"'), 'Give it smart="false"'),
        (CONFIG.replace(' smart="false"', ""), 'Give it smart="false"'),
        (CONFIG.replace('smart="true"', 'smart="false"'), "never sent"),
        (CONFIG.replace('<Label value="Dog"/></BrushLabels>', "</BrushLabels>"), 'its only label, "Cat"'),
        (CONFIG.replace('<Label value="Dog"/></BrushLabels>', '<Label value="Cow"/></BrushLabels>'), "without a label"),
        (CONFIG.replace("<View>", '<View><Image name="second" value="$second"/>'), "several images"),
        (CONFIG.replace("KeyPointLabels", "KeyPoint"), "has no labels"),
    ],
)
def test_problems_are_named_with_their_remedy(xml: str, words: str) -> None:
    assert any(words in problem for problem in LabelConfig.parse(xml).problems())


@pytest.mark.parametrize(
    "xml",
    ["", "<View>", "no xml", "<View>\0</View>", '<!DOCTYPE View [<!ENTITY a "b">]><View>&a;</View>', "<V>" * 2_000_000],
)
def test_what_is_no_config_is_refused(xml: str) -> None:
    with pytest.raises(ConfigError):
        LabelConfig.parse(xml)


def test_two_images_have_two_outputs() -> None:
    xml = """<View><Image name="a" value="$left"/><Image name="b" value="$right"/>
      <BrushLabels name="one" toName="a"><Label value="x"/></BrushLabels>
      <BrushLabels name="two" toName="b"><Label value="x"/></BrushLabels></View>"""
    config = LabelConfig.parse(xml)
    assert config.output("b").name == "two"  # type: ignore[union-attr]
    assert config.image("b").key == "right"  # type: ignore[union-attr]
    assert config.image().name == "a"  # type: ignore[union-attr]
