"""The command line: parse, call one function of `api`, print the result.

Results go to stdout, everything else to stderr; with `--output json`, both are JSON. Exit codes are those of
`errors`; Ctrl-C ends with 130, SIGTERM with 143.
Each command imports the modules that read Parquet itself, so that `--help` is instant.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from bucketwheel import __version__
from bucketwheel.cli import catalog, completing, deploy, doctor, history, package, pipeline, submit
from bucketwheel.cli.options import Invocation, color_option
from bucketwheel.cli.signals import terminate_cleanly, uninterrupted
from bucketwheel.cli.streams import usable_streams
from bucketwheel.cli.terminal import echo, echo_whole, mask_tracebacks
from bucketwheel.errors import BucketwheelError, EngineError, OutputError, StorageError, UsageError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bucketwheel")
def cli() -> None:
    """Turn a wide monthly Parquet snapshot into narrow, bucketed, catalogued tables."""


def _add_color(command: click.Command) -> None:
    """Let a command and its subcommands accept `--color`."""
    command.params.append(color_option())
    for part in command.commands.values() if isinstance(command, click.Group) else ():
        _add_color(part)


for _module in (pipeline, history, catalog, deploy, package, submit, doctor, completing):
    for _name, _command in vars(_module).items():
        # Subcommands of a group have names that begin with an underscore.
        if isinstance(_command, click.Command) and not _name.startswith("_"):
            cli.add_command(_command)
_add_color(cli)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    mask_tracebacks()
    words = sys.argv[1:] if arguments is None else list(arguments)
    # Arrow's allocator reads this when it is loaded. The kernel clears a huge page whole on first touch, which costs
    # short-lived buffers more than huge pages save: about a tenth of the CPU of a run.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    with usable_streams():
        code = _run(Invocation(words))
    if code:
        sys.exit(code)


def _run(invocation: Invocation) -> int:
    """Run the command line and return its exit code; no operating condition ends in a traceback."""
    try:
        with terminate_cleanly():
            cli.main(list(invocation.words), prog_name="bucketwheel", standalone_mode=False, obj=invocation)
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of stdout closed it, as `head` does.
        return 1
    except (BucketwheelError, OSError, MemoryError) as error:
        failure = _operating_error(error)
        _show(invocation, failure, f"error: {failure}")
        return failure.exit_code
    except click.ClickException as error:
        usage = UsageError(error.format_message())
        if invocation.output == "text":
            # Click would print the words of the command line as they are.
            text = io.StringIO()
            error.show(file=text)
            with uninterrupted():
                echo_whole(text.getvalue(), err=True, nl=False)
        else:
            _show(invocation, usage, "")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # Click replaces the interrupt, to which the run added notes, by an error of its own.
        interrupt = error.__cause__ or error
        _show(invocation, interrupt, str(interrupt) or "interrupted")
        return int(getattr(interrupt, "exit_code", 130))
    return 0


def _operating_error(error: BucketwheelError | OSError | MemoryError) -> BucketwheelError:
    """Return the error of a disk or a machine that no part of the program expected, in words."""
    if isinstance(error, BucketwheelError):
        return error
    failure: BucketwheelError
    if isinstance(error, MemoryError):
        detail = f": {error}" if str(error) else ""
        failure = EngineError(f"not enough memory{detail}; set memory or threads lower, or use a larger machine")
    else:
        place = f"{error.filename}: " if error.filename is not None else ""
        failure = StorageError(f"{place}{error.strerror or error}; check the disk and the permissions of the path")
    for note in getattr(error, "__notes__", ()):
        failure.add_note(note)
    return failure


def _show(invocation: Invocation, error: BaseException, text: str) -> None:
    # The log of `--output log` is on stdout, which may be what failed.
    with uninterrupted(), suppress(OSError, OutputError):
        if invocation.output != "text":
            invocation.json_log().failure(error)
            return
        for line in (text, *getattr(error, "__notes__", ())):
            echo(line, err=True, color=invocation.color)
