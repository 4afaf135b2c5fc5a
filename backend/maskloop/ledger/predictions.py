"""What was predicted, for whom, and how many clicks it took."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from maskloop.ledger.facts import Prediction
from maskloop.ledger.store import Store
from maskloop.ledger.tables import PredictionRow

LARGEST_RLE = 256 * 1024
"""Bytes; a larger mask is remembered without its pixels."""


class Predictions(Store):
    def record_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Remember masks that were shown."""
        rows = []
        for prediction in predictions:
            row = asdict(prediction)
            row["at"] = prediction.at or time.time()
            if prediction.rle is not None and len(prediction.rle) > LARGEST_RLE:
                row["rle"] = None
            rows.append(row)
        if rows:
            self._write(lambda session: session.execute(insert(PredictionRow), rows))

    def predictions(self, project: int, task: int) -> list[Prediction]:
        """Everything shown on a task, oldest first."""
        query = select(PredictionRow).filter_by(project=project, task=task).order_by(PredictionRow.id)
        return self._read(lambda session: [_prediction(row) for row in session.scalars(query)])

    def last_prediction(self, project: int, task: int, region: str) -> Prediction | None:
        """The last mask shown under a region id: what the annotator accepted or edited."""
        query = select(PredictionRow).filter_by(project=project, task=task, region=region)
        query = query.order_by(PredictionRow.id.desc()).limit(1)

        def work(session: Session) -> Prediction | None:
            row = session.scalars(query).first()
            return None if row is None else _prediction(row)

        return self._read(work)

    def forget_predictions(self, before: float) -> None:
        """Drop predictions made before a time."""
        self._write(lambda session: session.execute(delete(PredictionRow).where(PredictionRow.at < before)))


def _prediction(row: PredictionRow) -> Prediction:
    return Prediction(
        project=row.project,
        task=row.task,
        region=row.region,
        prompt=row.prompt,
        clicks=row.clicks,
        version=row.version,
        score=row.score,
        label=row.label,
        rle=row.rle,
        at=row.at,
    )
