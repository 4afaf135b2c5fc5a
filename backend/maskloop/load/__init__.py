"""Simulated annotators for ``maskloop bench load``: traffic as Label Studio makes it, and servers to send it to."""
