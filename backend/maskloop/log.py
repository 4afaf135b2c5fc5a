"""How the program speaks on standard error: one line an event, libraries only when they warn."""

from __future__ import annotations

import logging


def configure(level: str) -> None:
    """From ``level`` on for MaskLoop itself, from WARNING on for everybody else."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", force=True)
    logging.getLogger("maskloop").setLevel(level)
