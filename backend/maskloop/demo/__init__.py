"""A Label Studio of one's own, to try MaskLoop in: used by ``make demo`` and by the end-to-end tests."""
