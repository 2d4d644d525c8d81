"""Map error messages of Trino and Athena to error classes; both use the same error names."""

from __future__ import annotations

import re

from bucketwheel.errors import (
    ExecutorBusyError,
    ExecutorDeniedError,
    ExecutorError,
    ExecutorResourcesError,
    StatementError,
    TooManyWritersError,
)

_FEWER = (
    "the engine cannot write that many partitions and buckets in one statement; set ctas.method=promote, which "
    "moves no data, or lower buckets.count"
)
# The first matching pattern decides.
_CAUSES: tuple[tuple[str, type[ExecutorError], str], ...] = (
    (r"TOO_MANY_OPEN_PARTITIONS|open writers for partitions", TooManyWritersError, _FEWER),
    (
        r"PERMISSION_DENIED|ACCESS_DENIED|Access Denied|AccessDenied|Insufficient .*permission|not authorized",
        ExecutorDeniedError,
        "the role or user needs permission for this",
    ),
    (
        r"Rate exceeded|SlowDown|Throttl|TOO_MANY_REQUESTS|QUERY_QUEUE_FULL|NO_NODES_AVAILABLE|SERVER_STARTING_UP"
        r"|Too Many Requests",
        ExecutorBusyError,
        "the engine is busy; try again later, or lower ctas.concurrency",
    ),
    (
        r"exhausted resources|EXCEEDED_(?:\w+_)?LIMIT|CLUSTER_OUT_OF_MEMORY|INSUFFICIENT_RESOURCES|timed? ?out",
        ExecutorResourcesError,
        "the engine has too few resources; set ctas.method=promote, which moves no data, or enlarge the engine",
    ),
    (
        r"SYNTAX_ERROR|TYPE_MISMATCH|(?:TABLE|COLUMN|SCHEMA|CATALOG|FUNCTION)_NOT_FOUND|NOT_SUPPORTED"
        r"|INVALID_\w+_PROPERTY|mismatched input|HIVE_PATH_ALREADY_EXISTS",
        StatementError,
        "the engine rejects the statement; its version or configuration may differ from the expected one",
    ),
)
_KINDS = {kind: hint for _, kind, hint in _CAUSES}


def failure(thing: str, message: str, kind: type[ExecutorError] | None = None) -> ExecutorError:
    """Return the error for a message of an engine.

    Args:
        thing: the statement, such as ``Athena query 1b2c (copy of ext_ibe_01)``.
        message: message of the engine, with its error name if it has one.
        kind: the class by the engine's error number; None lets the message decide.
    """
    for pattern, named, _ in _CAUSES:
        # These messages are more precise than a number with several causes.
        telling = kind is None or named in (TooManyWritersError, ExecutorDeniedError)
        if telling and re.search(pattern, message, re.IGNORECASE):
            kind = named
            break
    chosen = kind or ExecutorError
    return chosen(f"{thing} failed: {message.strip().rstrip('.')}{hint(chosen)}")


def hint(kind: type[ExecutorError]) -> str:
    """Return the fix for an error of this class as a suffix of its message, or an empty text."""
    return f"; {_KINDS[kind]}" if kind in _KINDS else ""
