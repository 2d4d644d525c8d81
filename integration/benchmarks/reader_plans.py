"""Facts of the plans of readers."""

from __future__ import annotations

import re

from .reader_rounds import Figures


def spark_plan(plan: str) -> Figures:
    """Return the exchanges of rows by key, sorts and scans by bucket of a physical plan."""
    lines = [line.lstrip(" :+-*()0123456789") for line in plan.splitlines()]
    return {
        "exchanges": plan.count("Exchange hashpartitioning"),
        "sorts": sum(line.startswith("Sort [") for line in lines),
        "bucketed": plan.count("Bucketed: true"),
    }


def trino_plan(plan: str) -> Figures:
    """Return the exchanges of rows by key and the parts of the plan that read by bucket."""
    return {
        "exchanges": plan.count("Output partitioning: HASH"),
        "bucketed": len(re.findall(r"^Fragment \d+ \[.*PartitioningHandle", plan, re.MULTILINE)),
    }
