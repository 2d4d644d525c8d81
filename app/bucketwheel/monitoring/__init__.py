"""Logs, metrics and notifications of a run."""
