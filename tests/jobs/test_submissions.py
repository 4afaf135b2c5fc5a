from __future__ import annotations

import pytest

from maskloop.jobs.submissions import config_labels

IMAGE = '<Image name="image" value="$image"/>'
CARS = '<BrushLabels name="a" toName="image"><Label value="Car"/></BrushLabels>'
TREES = '<PolygonLabels name="b" toName="image"><Label value="Tree"/></PolygonLabels>'
BOXES = '<RectangleLabels name="c" toName="image"><Label value="Box"/></RectangleLabels>'


@pytest.mark.parametrize(
    ("tags", "labels"),
    [
        (CARS, {"Car"}),
        (CARS + TREES + BOXES, {"Car", "Tree"}),
        (TREES + BOXES, {"Tree"}),
        (BOXES, None),
        (CARS + '<Brush name="d" toName="image"/>', None),
        (CARS + '<PolygonLabels name="d" toName="image" value="$labels"/>', None),
    ],
)
def test_masks_may_have_the_labels_of_every_tag_that_makes_them(tags: str, labels: set[str] | None) -> None:
    assert config_labels(f"<View>{IMAGE}{tags}</View>") == labels


def test_a_config_that_is_none_says_nothing_of_labels() -> None:
    assert config_labels(None) is config_labels("<View") is None
