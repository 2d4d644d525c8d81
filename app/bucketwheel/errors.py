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
          SourceChangedError                   source files were added, removed or replaced during the run
        UnreadableFilesError                   truncated, corrupt or non-Parquet files, all listed
        SchemaError                            schemas differ, text is not UTF-8, or the key is missing, ambiguous or
                                               not hashable
        QualityError                           NULL or duplicate keys, or changed rows, exceed a limit
        WithdrawnError                         a rollback withdrew the data; publishing it needs consent
        VerificationError                      the written files differ from the data read
      LeaseError                      exit 4   another process writes this dataset
      StorageError                    exit 1   a path cannot be read or written
        ChangedError                  exit 4   another writer modified the file
      OutputError                     exit 1   the result of a command cannot be printed
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

`Terminated` (exit 143 or 129) is no error: it ends a command like Ctrl-C.
"""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable, Mapping
from typing import Self

from bucketwheel.safe_text import several_lines, without_credentials


class BucketwheelError(Exception):
    """Base class of all errors; the message names the object, the value and the fix.

    Attributes:
        exit_code: exit code of the command.
        fix: what has to be done before the same command can work, in the imperative; empty if nothing.
        resumable: whether the run that failed can be resumed after the fix; otherwise a new run is needed.
        accept: settings with which the command works, by dotted name; they are part of the advice.
        instead: a wrong word of the command and its correction; empty if there is none.
        others: errors that were found at the same time; the message of this one contains theirs.
    """

    exit_code = 1
    fix = "Fix the cause"
    resumable = True

    def __init__(
        self,
        *arguments: object,
        fix: str | None = None,
        accept: Mapping[str, str] | None = None,
        instead: tuple[str, ...] = (),
    ) -> None:
        super().__init__(*arguments)
        self.accept = dict(accept or {})
        self.instead = instead
        if fix is not None:
            self.fix = fix
        self.others: tuple[BucketwheelError, ...] = ()

    def __str__(self) -> str:
        """Return the message, followed by those of the errors that were found at the same time.

        Control characters are escaped and credentials masked, because messages quote things of the outside world.
        """
        return "\nand ".join(
            [several_lines(without_credentials(super().__str__())), *(str(other) for other in self.others)]
        )

    def found_with(self, others: Iterable[BucketwheelError]) -> Self:
        """Return this error with others, so that one round of fixes is enough for all of them."""
        for other in others:
            self.others = (*self.others, other)
            for note in getattr(other, "__notes__", ()):
                self.add_note(note)
        return self


class UsageError(BucketwheelError):
    """The command, the configuration or the mapping has to change."""

    exit_code = 2
    fix = "Fix the command or the configuration"


class ConfigError(UsageError):
    """A setting is unknown, has the wrong type or contradicts another."""

    fix = "Fix the configuration"


class SelectionError(UsageError):
    """The named dataset, table, stage, snapshot or run does not exist."""

    fix = "Fix the command"


class MappingError(UsageError):
    """The mapping CSV does not match the snapshot."""

    fix = "Fix the mapping"
    resumable = False


class MissingDependencyError(UsageError):
    """The Python packages of the selected backend are not installed."""

    fix = "Install the package"


class ResumeError(UsageError):
    """The run cannot be continued with this configuration or input."""

    fix = ""
    resumable = False


class DataRefusedError(BucketwheelError):
    """The data is not acceptable; nothing was published."""

    exit_code = 3
    fix = "Correct the snapshot"
    resumable = False


class SnapshotError(DataRefusedError):
    """No usable snapshot: none exists, none is complete, or it has no files or rows."""

    fix = "Load the snapshot or fix the configuration"


class SourceChangedError(SnapshotError):
    """Source files were added, removed or replaced during the run, so the run would mix two snapshots."""

    fix = "Wait until the snapshot is completely loaded"


class UnreadableFilesError(DataRefusedError):
    """Files are truncated, corrupt or not Parquet."""

    fix = "Replace the files"


class SchemaError(DataRefusedError):
    """The files have different schemas, text is not UTF-8, or the key is missing, ambiguous or has no bucket hash."""

    fix = "Correct the snapshot or the configuration"


class QualityError(DataRefusedError):
    """NULL keys, duplicate keys or the change in rows since the published snapshot exceed the configured limits."""


class WithdrawnError(DataRefusedError):
    """A rollback withdrew the data; publishing it again needs consent."""

    fix = "Correct the snapshot or the mapping, or add --force"


class VerificationError(DataRefusedError):
    """Files differ from the source."""

    fix = ""
    resumable = True


class LeaseError(BucketwheelError):
    """Another process holds, or took over, the lease of the dataset."""

    exit_code = 4
    fix = "Wait until the other process has finished"


class StorageError(BucketwheelError):
    """A path cannot be read or written."""

    fix = "Fix the storage problem"


class ChangedError(StorageError):
    """Another process wrote or deleted a file that only one writer may change."""

    exit_code = 4
    fix = "Wait until the other process has finished"


class OutputError(BucketwheelError):
    """The result of a command cannot be printed; the command has done its work."""

    fix = "Redirect the output to a place that can be written"


class CatalogError(BucketwheelError):
    """A catalog call failed."""

    fix = "Fix the catalog problem"


class DamagedCatalogError(CatalogError):
    """The file of the catalog is damaged; the manifests of the runs have what it takes to rebuild it."""

    fix = "Rebuild the catalog"


class ForeignTableError(CatalogError):
    """The catalog has a table of this name that Bucketwheel did not create."""

    exit_code = 2
    fix = "Rename or drop the table"


class ConcurrentPublishError(CatalogError):
    """The catalog table changed between reading it and publishing."""

    exit_code = 4
    fix = ""


class ExecutorError(BucketwheelError):
    """A SQL engine rejected a statement or failed to run it."""

    fix = "Fix the problem of the SQL engine"


class ExecutorBusyError(ExecutorError):
    """The engine is throttled, full or still starting."""

    fix = ""


class ExecutorResourcesError(ExecutorError):
    """A statement needs more memory or time than the engine allows."""

    fix = "Give the SQL engine more memory or time"


class ExecutorDeniedError(ExecutorError):
    """The role or user lacks a permission that a statement needs."""

    fix = "Grant the permission"


class StatementError(ExecutorError):
    """The engine rejected a statement as invalid."""


class TooManyWritersError(ExecutorError):
    """A statement would write more partitions and buckets than the engine can write at once."""

    exit_code = 2
    fix = "Change the layout or ctas.method"


class EngineError(BucketwheelError):
    """An engine could not finish its work."""

    fix = "Fix the problem of the engine"


class DeployError(BucketwheelError):
    """CloudFormation rejected a change, or failed and rolled it back."""


class SubmitError(BucketwheelError):
    """A job on AWS could not be started or followed, or failed."""


class JobBusyError(SubmitError):
    """The job has reached its maximum number of concurrent runs."""

    exit_code = 4
    fix = "Wait until another job has finished"


class JobFailedError(BucketwheelError):
    """A job failed with another Bucketwheel error, whose text and notes this error carries."""


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end; every command treats it like Ctrl-C.

    Attributes:
        exit_code: exit code of the command, as shells report a process that the signal ended.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"terminated by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the closest known name, ending in a space, or an empty string."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]!r}? " if close else ""


def correction(given: str, name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return (given, closest known name), where `name` is the form of `given` to compare; empty if none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return (given, close[0]) if close else ()
