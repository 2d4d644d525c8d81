"""Complete the names of datasets, runs, stages, environments and settings in the shell.

Completion reads the configuration that the command line selects. If that configuration is unreadable, completion
offers nothing, because an error message would disturb the command line that the user types.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from bucketwheel.errors import BucketwheelError
from bucketwheel.safe_text import one_line

if TYPE_CHECKING:
    from bucketwheel.api import Configuration

VARIABLE = "_BUCKETWHEEL_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@add_completion_class
class _Bash(BashComplete):
    """Click's completion for bash, but without a space after `KEY=`, where the value follows."""

    source_template = BashComplete.source_template.replace(
        "    return 0\n", '    [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace\n\n    return 0\n'
    )


@add_completion_class
class _Zsh(ZshComplete):
    """Click's completion for zsh, but without a space after `KEY=`."""

    source_template = ZshComplete.source_template.replace(
        "        compadd -U -V unsorted -a completions\n",
        """\
        if [[ "${completions[1]}" == *= ]]; then
            compadd -U -S '' -V unsorted -a completions
        else
            compadd -U -V unsorted -a completions
        fi
""",
    )


@add_completion_class
class _Fish(FishComplete):
    """Click's completion for fish, but also for values with commas, such as several stages."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


def script(shell: str) -> str:
    """Return the script that turns completion on in a shell."""
    from bucketwheel.cli import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell!r}; choose one of: {', '.join(SHELLS)}")
    return found(cli, {}, "bucketwheel", VARIABLE).source()


def _completing(names: Callable[[Configuration, click.Context], Iterable[str]]) -> _Complete:
    """Return a completion function for the names that `names` yields.

    It completes nothing if the configuration is unusable.
    """

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with suppress(BucketwheelError, OSError):
            return _items(names(_config(context), context), incomplete)
        return []

    return complete


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin so, without those that would disturb the terminal."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and one_line(name) == name]


def _config(context: click.Context) -> Configuration:
    from bucketwheel import api

    given = context.params
    return api.load(given.get("env") or "local", given.get("conf"), given.get("overrides") or ())


def _datasets(config: Configuration, _: click.Context) -> Iterable[str]:
    return config.settings.datasets


def _run_ids(config: Configuration, context: click.Context) -> Iterator[str]:
    from bucketwheel import api

    yield "last"
    yield from api.run_ids(config, context.params.get("dataset"))


def complete_stages(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last of several stages that commas separate."""
    before, comma = incomplete.rpartition(",")[:2]
    with suppress(BucketwheelError, OSError):
        names = [name for name in _config(context).settings.stages if name not in before.split(",")]
        return _items((f"{before}{comma}{name}" for name in names), incomplete)
    return []


def _settings(config: Configuration, _: click.Context) -> Iterator[str]:
    return (f"{name}=" for name, _, _ in config.rows())


def complete_env(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an environment: a file beside `base.yaml`."""
    folder = Path(context.params.get("conf") or "conf")
    with suppress(OSError):
        names = sorted({"local", *(path.stem for path in folder.glob("*.yaml"))} - {"base"})
        return _items(names, incomplete)
    return []


def complete_engine(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a built-in engine."""
    return _items(("arrow", "spark"), incomplete)


complete_dataset = _completing(_datasets)
complete_run = _completing(_run_ids)
complete_setting = _completing(_settings)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, datasets, runs, stages and settings in a shell."""
    sys.stdout.write(f"{script(shell)}\n")
