from __future__ import annotations

import json

import pytest

from bucketwheel.engines.spark.status import summarize_error

STACK = "\n\tat org.apache.spark.api.python.BasePythonRunner$ReaderIterator.read(PythonRunner.scala:572)\n"
ADVICE = "spark.executor.memoryOverhead"


def test_summary_of_lost_executor_has_reason_without_py4j() -> None:
    text = (
        "An error occurred while calling o52.collectToPython.\n: org.apache.spark.SparkException: Job aborted due to "
        "stage failure: Task 0 in stage 1.0 failed 4 times, most recent failure: Lost task 0.3 in stage 1.0 (TID 9): "
        "ExecutorLostFailure Reason: Command exited with code 137\nDriver stacktrace:\n\tat org.apache.spark.X\n"
    )
    summary = summarize_error(text)
    assert summary.startswith("org.apache.spark.SparkException: Job aborted due to stage failure")
    assert "code 137 (out of memory?" in summary
    assert ADVICE in summary
    assert "\n" not in summary


def test_summary_of_python_exception_has_its_last_line() -> None:
    raised = (
        "Traceback (most recent call last):\n  File a.py, line 1, in f\n    g()\nKeyError: 1\n\nThe above exception "
        "was the direct cause of the following exception:\n\nTraceback (most recent call last):\n  File b.py\n"
        "pyarrow.lib.ArrowMemoryError: malloc of size 64 failed\n"
    )
    summary = summarize_error(f"\n  An exception was thrown from the Python worker. Please see below.\n{raised}")
    assert summary.startswith(
        "a Python worker failed: pyarrow.lib.ArrowMemoryError: malloc of size 64 failed (out of"
    )
    summary = summarize_error(f"org.apache.spark.api.python.PythonException: {raised}{STACK}")
    assert summary.startswith("org.apache.spark.api.python.PythonException: pyarrow.lib.ArrowMemoryError: malloc of")
    assert ADVICE in summary


def test_summary_of_bucketwheel_error_has_type_and_message() -> None:
    summary = "bucketwheel-failure:" + json.dumps(["StorageError", "s3://b/k: PutObject failed", []])
    text = f"PythonException: Traceback (most recent call last):\n  File x\nRuntimeError: {summary}\n{STACK}"
    assert summarize_error(text) == "StorageError: s3://b/k: PutObject failed"


@pytest.mark.parametrize("text", ["", "\n", "An error occurred while calling o5.collect.\n"])
def test_summary_without_reason_says_unknown(text: str) -> None:
    assert summarize_error(text) == "unknown reason"
