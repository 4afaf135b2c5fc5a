from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskloop.learn.evaluate import (
    MOST_CLICKS,
    Object,
    Session,
    by_source,
    evaluate,
    figures,
    objects,
    overlap,
    reliability,
    spaced,
    tight_box,
)
from maskloop.segment.prompt import Box, Image, Prompt
from maskloop.segment.segmenter import Embedding, Prediction


class Halves:
    """Answers the left part of the image, wider by eight columns with each click; knows 0.5 of nothing."""

    name, encoder = "halves", "none"

    def encode(self, image: Image) -> Embedding:
        return Embedding({"pixels": image}, image.shape[:2], self.encoder)

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        mask = np.zeros(embedding.size, bool)
        mask[:, : 8 * len(prompt.points) or 20] = True
        return Prediction(mask, 0.5)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder in ("images", "masks"):
        (tmp_path / "eval" / folder).mkdir(parents=True)
    rows = []
    for name, columns in (("a_one", 32), ("b_two", 16)):
        mask = np.zeros((40, 64), np.uint8)
        mask[:, :columns] = 255
        mask[:, columns : columns + 2] = 128
        cv2.imwrite(str(tmp_path / "eval" / "images" / f"{name}.jpg"), np.full((40, 64, 3), 90, np.uint8))
        cv2.imwrite(str(tmp_path / "eval" / "masks" / f"{name}.png"), mask)
        rows.append({"split": "eval", "dataset": name[0], "image": f"{name}.jpg", "mask": f"{name}.png"})
    rows.append(rows[0] | {"split": "train"})
    with (tmp_path / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


def test_clicks_are_counted_until_the_mask_fits(data: Path) -> None:
    sessions = evaluate(Halves(), objects(data))
    wide, narrow = sessions
    assert wide.ious == pytest.approx((0.25, 0.5, 0.75, 1.0))
    assert [wide.needed(t) for t in (0.25, 0.85, 0.9)] == [1, 4, 4]
    assert narrow.ious == pytest.approx((0.5, 1.0))
    assert narrow.after(5) == 1.0
    assert wide.box == pytest.approx(20 / 32)
    found = by_source(sessions)
    assert found["a"]["noc90"] == 4
    assert found["b"]["noc90"] == 2
    assert found["all"]["noc90"] == 3
    assert found["all"]["miou1"] == pytest.approx(0.375)
    assert found["all"]["fail85"] == 0


def test_what_never_fits_counts_all_clicks_and_fails(data: Path) -> None:
    session = Session(objects(data)[0], (0.3, 0.6), (0.1, 0.2), (0.0, 0.0), 0.0, 0.0, ())
    assert session.needed(0.85) == MOST_CLICKS
    assert session.failed(0.85)
    assert figures([session])["noc85"] == MOST_CLICKS


def test_objects_by_index_and_by_name(data: Path, tmp_path: Path) -> None:
    assert [entry.source for entry in objects(data)] == ["a", "b"]
    assert [entry.source for entry in objects(data, sources=["b"])] == ["b"]
    (data / "index.csv").unlink()
    (data / "eval" / "masks" / "a_one.png").rename(data / "eval" / "masks" / "a_one_0.png")
    assert [(entry.image.name, entry.mask.name) for entry in objects(data)] == [
        ("a_one.jpg", "a_one_0.png"),
        ("b_two.jpg", "b_two.png"),
    ]
    with pytest.raises(ValueError, match="no objects"):
        objects(data, sources=["c"])


def test_the_band_of_uncertain_pixels_is_left_out(data: Path) -> None:
    truth, ignored = objects(data)[0].truth()
    assert truth.sum() == 32 * 40
    assert ignored.sum() == 2 * 40
    assert overlap(truth | ignored, truth, ignored) == 1
    assert overlap(~truth & ignored, truth, ignored) == 0


def test_the_same_sessions_give_the_same_figures(data: Path) -> None:
    timed = ("click_seconds", "encode_seconds")
    first, second = (
        {k: v for k, v in figures(evaluate(Halves(), objects(data))).items() if k not in timed} for _ in range(2)
    )
    assert first == second


def test_calibration() -> None:
    entry = Object("x", Path(), Path())
    sessions = [Session(entry, (0.2, 0.95), (0.25, 0.85), (0.0, 0.0), 0.0, 0.0, ())]
    assert reliability(sessions) == [(0.2, 0.25, 0.2, 1), (0.8, 0.85, 0.95, 1)]
    found = figures(sessions)
    assert found["rank_correlation"] == 1
    assert found["calibration_error"] == pytest.approx(0.075)


def test_a_box_is_tight_and_needs_a_mask() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:5, 3:9] = True
    assert tight_box(mask) == Box(3, 2, 9, 5)
    with pytest.raises(ValueError, match="empty"):
        tight_box(np.zeros((3, 3), bool))


def test_a_limit_keeps_every_source(data: Path) -> None:
    entries = [Object("a", Path(str(n)), Path()) for n in range(10)] + [Object("b", Path(), Path())] * 10
    assert [entry.source for entry in spaced(entries, 4)] == ["a", "a", "b", "b"]
    assert spaced(entries, 0) == entries
