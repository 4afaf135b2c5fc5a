"""Annotations as Label Studio tells them to submissions as the ledger keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone
from typing import Any

from maskloop import ledger
from maskloop.labelstudio import events
from maskloop.labelstudio.controls import ConfigError, LabelConfig
from maskloop.labelstudio.records import Annotation
from maskloop.labelstudio.shapes import Brush, Polygon
from maskloop.labelstudio.sources import Region, parse_region


def kept_regions(regions: Sequence[Region]) -> tuple[ledger.Region, ...]:
    """The regions of an annotation with what training may need of them."""
    return tuple(
        ledger.Region(
            id=region.id,
            kind=region.type,
            label=region.label,
            width=region.size[0],
            height=region.size[1],
            rle=region.shape.rle if isinstance(region.shape, Brush) else None,
            points=region.shape.points if isinstance(region.shape, Polygon) else None,
        )
        for region in regions
        if region.type != "relation"
    )


def from_api(annotation: Annotation, data: Mapping[str, Any], config: str, max_pixels: int) -> ledger.Submission:
    """An annotation read through the API; ``data`` is its task's data, ``config`` the labeling config."""
    return ledger.Submission(
        project=annotation.project,
        task=annotation.task,
        annotation=annotation.id,
        updated_at=annotation.updated_at.astimezone(timezone.utc).isoformat(),
        image=image_url(data, config),
        regions=kept_regions([parse_region(raw, max_pixels) for raw in annotation.result if isinstance(raw, Mapping)]),
        cancelled=annotation.was_cancelled,
        ground_truth=annotation.ground_truth,
        completed_by=annotation.completed_by,
    )


def from_event(annotation: events.Annotation, config: str) -> ledger.Submission:
    """An annotation as a webhook told it; ``config`` is the labeling config of its project."""
    return ledger.Submission(
        project=annotation.project,
        task=annotation.task,
        annotation=annotation.id,
        updated_at=annotation.updated_at,
        image=image_url(annotation.data, config),
        regions=kept_regions(annotation.regions),
        cancelled=annotation.was_cancelled,
        ground_truth=annotation.ground_truth,
        completed_by=annotation.completed_by,
    )


def image_url(data: Mapping[str, Any], config: str) -> str:
    """The image of a task, by the key that the labeling config names; "" if it has none."""
    try:
        tag = LabelConfig.parse(config).image()
    except ConfigError:
        tag = None
    keys = [tag.key] if tag is not None else list(data)
    return next((value for key in keys if isinstance(value := data.get(key), str)), "")


def config_labels(config: str | None) -> frozenset[str] | None:
    """The labels that masks may have now, None when that is not known (or they come from the task's data)."""
    try:
        found = LabelConfig.parse(config) if config else None
    except ConfigError:
        return None
    makers = [control for control in found.controls if control.makes_masks] if found else []
    if not makers or any(control.dynamic or not control.labels for control in makers):
        return None
    return frozenset(label for control in makers for label in control.labels)
