from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maskloop.learn.gate import Score, interval, judge


def scores(seed: int = 0, images: int = 10, per_image: int = 3, label: str = "Cell") -> list[Score]:
    rng = np.random.default_rng(seed)
    return [
        Score(f"{label}{i}", f"o{k}", label, float(rng.integers(2, 12)), float(rng.integers(4, 16)), 0.6, 0.8)
        for i in range(images)
        for k in range(per_image)
    ]


def faster(before: list[Score], by: float, seed: int = 1) -> list[Score]:
    rng = np.random.default_rng(seed)
    return [
        replace(s, noc85=max(1.0, s.noc85 - by - rng.normal()), noc90=max(1.0, s.noc90 - by - rng.normal()))
        for s in before
    ]


def noisy(of: list[Score], seed: int) -> list[Score]:
    """The same version again, with luck that the objects of an image share in part."""
    rng = np.random.default_rng(seed)
    luck = {image: rng.normal(0, 0.3) for image in sorted({s.image for s in of})}
    return [
        replace(
            s,
            noc85=s.noc85 * np.exp(luck[s.image] + rng.normal(0, 0.3)),
            noc90=s.noc90 * np.exp(luck[s.image] + rng.normal(0, 0.3)),
            iou1=s.iou1 - 0.1 * luck[s.image] + rng.normal(0, 0.05),
            iou3=s.iou3 - 0.1 * luck[s.image] + rng.normal(0, 0.02),
        )
        for s in of
    ]


def test_clearly_better_is_promoted_with_numbers() -> None:
    base = scores()
    verdict = judge(faster(base, 3), base, base)
    assert verdict.promote
    assert "effort" in verdict.reasons[0]
    assert "clicks to 85 %" in verdict.reasons[1]
    assert verdict.against_current[0].high < 0
    assert (verdict.objects, verdict.images) == (30, 10)


def test_the_same_is_not_promoted() -> None:
    base = scores()
    verdict = judge(base, base, base)
    assert not verdict.promote
    assert "not better" in verdict.reasons[0]


@pytest.mark.parametrize("images", [3, 5, 10])
def test_chance_is_seldom_promoted(images: int) -> None:
    """Five in a hundred are meant to be, also where the hold-out is small."""
    bases = [scores(k, images) for k in range(300)]
    promoted = sum(judge(noisy(b, 2 * k), noisy(b, 2 * k + 1), b).promote for k, b in enumerate(bases))
    assert promoted <= 24


def test_what_is_much_better_is_mostly_promoted_by_five_images() -> None:
    """Effort less by 0.1 on average, by 0.1 more or less from image to image."""
    base = [replace(s, noc85=5.0, noc90=7.0) for s in scores(images=5)]
    promoted = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        less = {image: rng.normal(0.1, 0.1) for image in sorted({s.image for s in base})}
        better = [
            replace(s, noc85=s.noc85 - 10 * d, noc90=s.noc90 - 10 * d, iou1=s.iou1 + d, iou3=s.iou3 + d)
            for s in base
            for d in (less[s.image],)
        ]
        promoted += judge(better, base, base).promote
    assert promoted > 100


def test_worse_is_never_promoted() -> None:
    base = scores()
    verdict = judge(faster(base, -3), base, base)
    assert not verdict.promote
    assert any("worse" in reason for reason in verdict.reasons)


def test_no_label_pays_for_the_others() -> None:
    common, rare = scores(), scores(images=3, per_image=2, label="Rare")
    candidate = faster(common, 4) + [replace(s, noc85=s.noc85 + 2) for s in rare]
    verdict = judge(candidate, common + rare, common + rare)
    assert not verdict.promote
    assert any("'Rare'" in reason for reason in verdict.reasons)


def test_better_than_a_bad_current_version_but_worse_than_the_base_is_not_enough() -> None:
    base = scores()
    current = [replace(s, noc85=20.0, noc90=20.0) for s in base]
    candidate = [replace(s, noc85=s.noc85 + 3, noc90=s.noc90 + 3) for s in base]
    verdict = judge(candidate, current, base)
    assert not verdict.promote
    assert any("base" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(("images", "per_image"), [(0, 0), (1, 10), (2, 10), (3, 1)])
def test_too_small_a_hold_out_decides_nothing(images: int, per_image: int) -> None:
    base = scores(images=images, per_image=per_image)
    verdict = judge(faster(base, 5), base, base)
    assert not verdict.promote
    assert "hold-out" in verdict.reasons[0]


def test_other_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="same objects"):
        judge(scores(images=3), scores(images=4), scores(images=3))


def test_the_interval_knows_that_objects_of_an_image_go_together() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=8), 20)
    together = interval(values, [f"i{k // 20}" for k in range(160)])
    apart = interval(values, [f"i{k}" for k in range(160)])
    assert together[1] - together[0] > 2 * (apart[1] - apart[0])


def test_one_image_proves_nothing_however_many_objects_it_has() -> None:
    low, high = interval(np.full(20, -0.3), ["i"] * 20)
    assert low < 0 <= high


def test_better_masks_at_the_first_click_count_unless_they_cost_clicks_later() -> None:
    base = scores()
    sharper = [replace(s, iou1=s.iou1 + 0.1) for s in base]
    assert judge(sharper, base, base).promote
    slower = [replace(s, noc85=s.noc85 + 1.0) for s in sharper]
    assert not judge(slower, base, base).promote
