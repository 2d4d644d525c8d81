"""Every error Bucketwheel raises on purpose, in one tree.

::

    BucketwheelError                  exit 1   the work failed
      UsageError                      exit 2   wrong use or configuration
        ConfigError                            a setting is unknown, of the wrong type or contradicts another
        SelectionError                         a dataset, table, stage, snapshot or run that does not exist
        MappingError                           the mapping CSV does not fit the snapshot
        MissingDependencyError                 an extra has to be installed
        ResumeError                            the run cannot be continued with this configuration or input
      DataRefusedError                exit 3   the data was read and is not acceptable
        SnapshotError                          no usable snapshot, or one without files or rows
        UnreadableFilesError                   truncated, foreign or corrupt Parquet files, all of them listed
        SchemaError                            files disagree, or the key is missing, ambiguous or not hashable
        QualityError                           null or duplicate keys, or changed rows, over the configured policy
        VerificationError                      what was written is not what was read
      LeaseError                      exit 4   another process writes this dataset
      StorageError                    exit 1   a path cannot be read or written
        ChangedError                  exit 4   a file is not what it was when this writer last saw it
      CatalogError                    exit 1   a catalog call failed
        ForeignTableError             exit 2   the table exists and is not ours
        ConcurrentPublishError        exit 4   the table changed between reading and publishing
      ExecutorError                   exit 1   a SQL engine refused or failed a statement
        ExecutorBusyError                      the engine is throttled or full: later it may work
        ExecutorResourcesError                 the statement needs more memory or time than the engine gives
        ExecutorDeniedError                    the role may not do this
        StatementError                         the engine does not accept the statement
        TooManyWritersError           exit 2   more partitions and buckets than an engine writes at once
      EngineError                     exit 1   an engine lost work
      DeployError                     exit 1   CloudFormation refused or failed
      SubmitError                     exit 1   a job on AWS could not be started, or did not end well
        JobBusyError                  exit 4   the job has as many runs as it may have
      JobFailedError                  exit 1   what a job of Glue, EMR Serverless or spark-submit ends with
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

# Prefix of the note on an error that has the command to resume the run.
RESUME: Final = "To go on from here: "


class BucketwheelError(Exception):
    """Base of the tree; the message names the thing, the value and the fix."""

    exit_code = 1


class UsageError(BucketwheelError):
    """The command, the configuration or the mapping has to change."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, of the wrong type or contradicts another."""


class SelectionError(UsageError):
    """A dataset, table, stage, snapshot or run was named that does not exist."""


class MappingError(UsageError):
    """The mapping CSV does not fit the snapshot."""


class MissingDependencyError(UsageError):
    """A backend was chosen whose Python packages are not installed."""


class ResumeError(UsageError):
    """The run cannot be continued with this configuration or input."""


class DataRefusedError(BucketwheelError):
    """The data is not acceptable; nothing was published."""

    exit_code = 3


class SnapshotError(DataRefusedError):
    """No usable snapshot: none exists, none is complete, or it has no files or rows."""


class UnreadableFilesError(DataRefusedError):
    """Parquet files are truncated, foreign or corrupt."""


class SchemaError(DataRefusedError):
    """Files disagree on a column, or the key is missing, ambiguous or of a type that has no bucket hash."""


class QualityError(DataRefusedError):
    """Null or duplicate keys, or rows that changed since the published snapshot, go beyond the configured policy."""


class VerificationError(DataRefusedError):
    """Files differ from the source."""


class LeaseError(BucketwheelError):
    """Another process holds, or took over, the lease of the dataset."""

    exit_code = 4


class StorageError(BucketwheelError):
    """A path cannot be read or written."""


class ChangedError(StorageError):
    """Another process wrote or deleted a file that only one writer may change."""

    exit_code = 4


class CatalogError(BucketwheelError):
    """A catalog call failed."""


class ForeignTableError(CatalogError):
    """The catalog has a table of this name that Bucketwheel did not create."""

    exit_code = 2


class ConcurrentPublishError(CatalogError):
    """The catalog table changed between reading it and publishing."""

    exit_code = 4


class ExecutorError(BucketwheelError):
    """A SQL engine refused or failed a statement."""


class ExecutorBusyError(ExecutorError):
    """The engine is throttled, full or still starting."""


class ExecutorResourcesError(ExecutorError):
    """A statement needs more memory or time than the engine gives it."""


class ExecutorDeniedError(ExecutorError):
    """The role or user may not do what a statement needs."""


class StatementError(ExecutorError):
    """The engine does not accept a statement."""


class TooManyWritersError(ExecutorError):
    """A statement would write more partitions and buckets than the engine writes at once."""

    exit_code = 2


class EngineError(BucketwheelError):
    """An engine could not finish its work."""


class DeployError(BucketwheelError):
    """CloudFormation refused a change, or failed and undid it."""


class SubmitError(BucketwheelError):
    """A job on AWS could not be started or followed, or did not end well."""


class JobBusyError(SubmitError):
    """The job has as many runs at the same time as it may have."""

    exit_code = 4


class JobFailedError(BucketwheelError):
    """A job ended with another error of this tree, whose text and notes it carries."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the closest known name, ending in a space, or an empty string."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]!r}? " if close else ""


def resuming(error: BaseException) -> str:
    """Return the command that resumes the run that ended with this error, or an empty string."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(RESUME)]
    return notes[0].removeprefix(RESUME) if notes else ""
