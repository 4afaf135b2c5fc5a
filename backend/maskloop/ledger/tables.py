"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from typing import Annotated

from sqlalchemy import BigInteger, Index, LargeBinary, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Id = Annotated[int, mapped_column(BigInteger)]
"""One of Label Studio's, which may need 64 bits."""


class Base(DeclarativeBase):
    """Every table of the ledger."""


class PredictionRow(Base):
    __tablename__ = "prediction"
    id: Mapped[int] = mapped_column(primary_key=True)
    project: Mapped[Id]
    task: Mapped[Id]
    region: Mapped[str]
    prompt: Mapped[str]
    clicks: Mapped[int]
    version: Mapped[str]
    score: Mapped[float]
    label: Mapped[str | None]
    rle: Mapped[bytes | None] = mapped_column(LargeBinary)
    at: Mapped[float] = mapped_column(index=True)
    __table_args__ = (Index("prediction_region", "project", "task", "region"),)


class SubmissionRow(Base):
    __tablename__ = "submission"
    project: Mapped[Id] = mapped_column(primary_key=True)
    annotation: Mapped[Id] = mapped_column(primary_key=True)
    task: Mapped[Id | None]
    updated_at: Mapped[str]
    changed_at: Mapped[str]  # the updated_at of the form that last differed in more than a star
    image: Mapped[str] = mapped_column(Text)
    cancelled: Mapped[bool]
    ground_truth: Mapped[bool]
    deleted: Mapped[bool]
    completed_by: Mapped[Id | None]
    regions: Mapped[bytes] = mapped_column(LargeBinary)
    training: Mapped[int | None]
    recorded_at: Mapped[float]
    __table_args__ = (Index("submission_task", "project", "task"),)


class DeletedTaskRow(Base):
    """Tasks that are gone: an event that comes late must not bring their annotations back."""

    __tablename__ = "deleted_task"
    project: Mapped[Id] = mapped_column(primary_key=True)
    task: Mapped[Id] = mapped_column(primary_key=True)


class ProjectRow(Base):
    __tablename__ = "project"
    id: Mapped[Id] = mapped_column(primary_key=True)
    label_config: Mapped[str] = mapped_column(Text)
    polled_until: Mapped[str]
    polled_at: Mapped[float]


class SplitRow(Base):
    """Which part of the data an image (by content hash) belongs to: once held out, never trained on."""

    __tablename__ = "split"
    project: Mapped[Id] = mapped_column(primary_key=True)
    content: Mapped[str] = mapped_column(primary_key=True)
    part: Mapped[str]


class TrainingRow(Base):
    __tablename__ = "training"
    id: Mapped[int] = mapped_column(primary_key=True)
    project: Mapped[Id]
    state: Mapped[str]
    trigger: Mapped[str]
    requested_at: Mapped[float]
    not_before: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    heartbeat: Mapped[float | None]
    owner: Mapped[str | None]
    attempt: Mapped[int]
    progress: Mapped[float]
    note: Mapped[str] = mapped_column(Text)
    version: Mapped[str | None]
    cancel: Mapped[bool]
    # The database itself refuses a second waiting and a second running training of a project.
    __table_args__ = tuple(
        Index(
            f"training_one_{state}",
            "project",
            unique=True,
            sqlite_where=text(f"state = '{state}'"),
            postgresql_where=text(f"state = '{state}'"),
        )
        for state in ("waiting", "running")
    )


class PromotionRow(Base):
    __tablename__ = "promotion"
    id: Mapped[int] = mapped_column(primary_key=True)
    project: Mapped[Id] = mapped_column(index=True)
    version: Mapped[str]
    previous: Mapped[str]
    by: Mapped[str]
    at: Mapped[float]
    told: Mapped[bool]


class BatchRow(Base):
    __tablename__ = "batch"
    id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[Id]
    version: Mapped[str]
    created_at: Mapped[float]


class BatchItemRow(Base):
    __tablename__ = "batch_item"
    id: Mapped[int] = mapped_column(primary_key=True)
    batch: Mapped[str] = mapped_column(index=True)
    project: Mapped[Id]
    task: Mapped[Id]
    version: Mapped[str]
    prompt: Mapped[str]
    payload: Mapped[str] = mapped_column(Text)
    state: Mapped[str]
    owner: Mapped[str | None]
    lease_until: Mapped[float | None]
    attempt: Mapped[int]
    error: Mapped[str] = mapped_column(Text)
    __table_args__ = (
        Index("batch_item_once", "project", "task", "version", "prompt", unique=True),
        Index("batch_item_open", "state", "id"),
    )


class TallyRow(Base):
    """How many tasks of batches that are forgotten were done, and failed."""

    __tablename__ = "tally"
    state: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
