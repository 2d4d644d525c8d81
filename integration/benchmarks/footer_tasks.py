"""Tasks of the section `discover`: many files of many columns."""

from __future__ import annotations

from .measure import Task, module

# Columns and files; the second is the shape of a large monthly snapshot.
FOOTERS = ((1250, 200), (1500, 5000), (5000, 100))


def name_of(columns: int) -> str:
    """Return the name of the task with this many columns."""
    return f"{columns:,} columns"


def footer_tasks() -> list[Task]:
    """Return a task for each number of columns."""
    return [
        Task(name_of(columns), [*module("wide_footers"), str(columns), str(files)], reports=True)
        for columns, files in FOOTERS
    ]
