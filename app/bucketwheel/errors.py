"""Define every error that Bucketwheel raises, as one class hierarchy.

::

    BucketwheelError                  exit 1   the work failed
      UsageError                      exit 2   wrong use or configuration
        ConfigError                            a setting is unknown, has the wrong type or contradicts another
        SelectionError                         a dataset, table, stage, snapshot or run that does not exist
        MappingError                           the mapping CSV does not match the snapshot
        MissingDependencyError                 an extra has to be installed
        ResumeError                            the run cannot be continued with this configuration or input
      DataRefusedError                exit 3   the data was read and is not acceptable
        SnapshotError                          no usable snapshot, or one without files or rows
        UnreadableFilesError                   truncated, corrupt or non-Parquet files, all listed
        SchemaError                            schemas differ, or the key is missing, ambiguous or not hashable
        QualityError                           NULL or duplicate keys, or changed rows, exceed a limit
        WithdrawnError                         the run was rolled back from; publishing it again needs consent
        VerificationError                      the written files differ from the data read
      LeaseError                      exit 4   another process writes this dataset
      StorageError                    exit 1   a path cannot be read or written
        ChangedError                  exit 4   another writer modified the file
      CatalogError                    exit 1   a catalog call failed
        ForeignTableError             exit 2   the table exists and is not Bucketwheel's
        ConcurrentPublishError        exit 4   the table changed between reading and publishing
      ExecutorError                   exit 1   a SQL engine rejected a statement or failed
        ExecutorBusyError                      the engine is throttled or full; retry later
        ExecutorResourcesError                 the statement needs more memory or time than the engine allows
        ExecutorDeniedError                    the role lacks a permission
        StatementError                         the engine rejected the statement
        TooManyWritersError           exit 2   more partitions and buckets than an engine can write at once
      EngineError                     exit 1   an engine could not finish its work
      DeployError                     exit 1   CloudFormation rejected a change or failed
      SubmitError                     exit 1   a job on AWS could not be started or failed
        JobBusyError                  exit 4   the job reached its limit of concurrent runs
      JobFailedError                  exit 1   a job on Glue, EMR Serverless or spark-submit failed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

# Prefix of the exception note that contains the command to resume the run.
RESUME: Final = "To resume: "


class BucketwheelError(Exception):
    """Base class of all errors; the message names the object, the value and the fix."""

    exit_code = 1


class UsageError(BucketwheelError):
    """The command, the configuration or the mapping has to change."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, has the wrong type or contradicts another."""


class SelectionError(UsageError):
    """The named dataset, table, stage, snapshot or run does not exist."""


class MappingError(UsageError):
    """The mapping CSV does not match the snapshot."""


class MissingDependencyError(UsageError):
    """The Python packages of the selected backend are not installed."""


class ResumeError(UsageError):
    """The run cannot be continued with this configuration or input."""


class DataRefusedError(BucketwheelError):
    """The data is not acceptable; nothing was published."""

    exit_code = 3


class SnapshotError(DataRefusedError):
    """No usable snapshot: none exists, none is complete, or it has no files or rows."""


class UnreadableFilesError(DataRefusedError):
    """Files are truncated, corrupt or not Parquet."""


class SchemaError(DataRefusedError):
    """The files have different schemas, or the key is missing, ambiguous or of a type that has no bucket hash."""


class QualityError(DataRefusedError):
    """NULL keys, duplicate keys or the change in rows since the published snapshot exceed the configured limits."""


class WithdrawnError(DataRefusedError):
    """The run was rolled back from, and publishing its snapshot again needs consent."""


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
    """A SQL engine rejected a statement or failed to run it."""


class ExecutorBusyError(ExecutorError):
    """The engine is throttled, full or still starting."""


class ExecutorResourcesError(ExecutorError):
    """A statement needs more memory or time than the engine allows."""


class ExecutorDeniedError(ExecutorError):
    """The role or user lacks a permission that a statement needs."""


class StatementError(ExecutorError):
    """The engine rejected a statement as invalid."""


class TooManyWritersError(ExecutorError):
    """A statement would write more partitions and buckets than the engine can write at once."""

    exit_code = 2


class EngineError(BucketwheelError):
    """An engine could not finish its work."""


class DeployError(BucketwheelError):
    """CloudFormation rejected a change, or failed and rolled it back."""


class SubmitError(BucketwheelError):
    """A job on AWS could not be started or followed, or failed."""


class JobBusyError(SubmitError):
    """The job has reached its maximum number of concurrent runs."""

    exit_code = 4


class JobFailedError(BucketwheelError):
    """A job failed with another Bucketwheel error, whose text and notes this error carries."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the closest known name, ending in a space, or an empty string."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]!r}? " if close else ""


def resuming(error: BaseException) -> str:
    """Return the command that resumes the run that ended with this error, or an empty string."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(RESUME)]
    return notes[0].removeprefix(RESUME) if notes else ""
