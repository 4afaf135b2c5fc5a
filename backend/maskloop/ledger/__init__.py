"""What was predicted, submitted, trained and promoted: facts in one database that every process shares."""

from maskloop.ledger.batches import Batches
from maskloop.ledger.facts import (
    BY_HAND,
    BatchItem,
    BatchProgress,
    Prediction,
    Promotion,
    Recorded,
    Region,
    Signal,
    Submission,
    Training,
    TrainingState,
)
from maskloop.ledger.predictions import Predictions
from maskloop.ledger.projects import Projects
from maskloop.ledger.store import DatabaseError, LedgerError
from maskloop.ledger.submissions import Submissions
from maskloop.ledger.trainings import LAST_ATTEMPT, Trainings

__all__ = [
    "BY_HAND",
    "LAST_ATTEMPT",
    "BatchItem",
    "BatchProgress",
    "DatabaseError",
    "Ledger",
    "LedgerError",
    "Prediction",
    "Promotion",
    "Recorded",
    "Region",
    "Signal",
    "Submission",
    "Training",
    "TrainingState",
]


class Ledger(Projects, Predictions, Submissions, Trainings, Batches):
    """``Ledger(url)``: the whole book. Safe to share between threads, and between processes by its URL."""
