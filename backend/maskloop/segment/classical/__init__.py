"""Engines that need no weights."""
