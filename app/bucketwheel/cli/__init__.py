"""The command line: parse, call one function of `api`, print the result.

Results go to stdout, everything else to stderr. Exit codes are those of `errors`; Ctrl-C ends with 130.
Each command imports the modules that read Parquet itself, so that `--help` is instant.
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
    """Turn a wide monthly Parquet snapshot into narrow, bucketed, catalogued tables."""


for _module in (pipeline, history, deploy, package, submit, doctor):
    for _name, _command in vars(_module).items():
        # Subcommands of a group have names that begin with an underscore.
        if isinstance(_command, click.Command) and not _name.startswith("_"):
            cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    # Arrow's allocator reads this when it is loaded. The kernel clears a huge page whole on first touch, which costs
    # short-lived buffers more than huge pages save: about a tenth of the CPU of a run.
    os.environ.setdefault("MIMALLOC_ALLOW_THP", "0")
    invocation = Invocation(words)
    try:
        cli.main(words, prog_name="bucketwheel", standalone_mode=False, obj=invocation)
    except BucketwheelError as error:
        _show(invocation, error, f"error: {error}")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        # Click replaces the interrupt, to which the run added notes, by an error of its own.
        _show(invocation, error.__cause__ or error, "interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of stdout closed it, as `head` does; without this, Python's last flush would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _show(invocation: Invocation, error: BaseException, text: str) -> None:
    if invocation.log is not None:
        invocation.log.failure(error)
        return
    click.echo(text, err=True)
    for note in getattr(error, "__notes__", ()):
        click.echo(note, err=True)
