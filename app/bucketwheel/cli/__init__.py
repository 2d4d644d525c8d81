"""The command line: parse, call one function of `api`, print the result.

Results go to stdout, everything else to stderr. Exit codes are those of `errors`; Ctrl-C ends with 130.
Modules that read Parquet are imported by the commands that need them, so that `--help` is instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from bucketwheel import __version__
from bucketwheel.cli import deploy, doctor, history, package, pipeline, submit
from bucketwheel.cli.options import Invocation
from bucketwheel.errors import BucketwheelError


@click.group()
@click.version_option(__version__, prog_name="bucketwheel")
def cli() -> None:
    """Turn a wide monthly Parquet snapshot into narrow, Hive-bucketed, catalogued tables."""


for _module in (pipeline, history, deploy, package, submit, doctor):
    for _name, _command in vars(_module).items():
        # A command of a group has a name with an underscore there.
        if isinstance(_command, click.Command) and not _name.startswith("_"):
            cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # Arrow's allocator reads this when it is loaded. Huge pages are cleared whole when they are touched, which
    # costs short-lived buffers more than it saves them: about a tenth of the CPU of a run.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    called = Invocation(given)
    try:
        cli.main(given, prog_name="bucketwheel", standalone_mode=False, obj=called)
    except BucketwheelError as error:
        _show(called, error, f"error: {error}")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        # Click turns the interrupt that the run has noted something on into an error of its own.
        _show(called, error.__cause__ or error, "interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever reads stdout has seen enough, as `head` has; Python's last flush must not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _show(called: Invocation, error: BaseException, text: str) -> None:
    if called.log is not None:
        called.log.failure(error)
        return
    click.echo(text, err=True)
    for note in getattr(error, "__notes__", ()):
        click.echo(note, err=True)
