"""Where a job waits and who runs it. Knows no job by name."""
