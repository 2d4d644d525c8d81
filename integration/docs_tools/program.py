"""Describe commands, arguments of jobs, metrics and errors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from bucketwheel import errors
from bucketwheel.cli import cli
from bucketwheel.cli.job import ARGUMENTS
from bucketwheel.cli.options import OLD_NAMES
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.doctor import first_run
from bucketwheel.errors import BucketwheelError
from bucketwheel.monitoring import metrics
from bucketwheel.settings.loading import load

from .parts import Words, table

# Options of nearly every command, listed once.
_SHARED = ("--env", "--conf", "--set", "--engine", "--output", "--color")
_PAGES = ("commands", "arguments", "settings", "manifest", "metrics", "errors")
_ROOT = Path(__file__).parents[2]
REFERENCE = _ROOT / "docs" / "reference"
_MEANINGS = {
    0: "success, or already up to date",
    1: "the command failed",
    2: "usage or configuration error",
    3: "the data is invalid",
    4: "another process holds the lease",
    129: "terminated by SIGHUP, the end of a terminal session",
    130: "interrupted by Ctrl-C",
    143: "terminated by SIGTERM",
}


def page_table(old: Words) -> str:
    """Return the table of reference pages: generated pages first, new ones with their heading."""
    names = sorted(path.stem for path in REFERENCE.glob("*.md") if path.stem != "README")
    ordered = [*_PAGES, *(name for name in names if name not in _PAGES)]
    rows = []
    for name in ordered:
        heading = (REFERENCE / f"{name}.md").read_text("utf-8").partition("\n")[0].strip("# ")
        rows.append((f"[`{name}`]({name}.md)", old.get(("", name)) or heading))
    return table(("page", "about"), rows)


def commands(group: click.Group = cli, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Return every command by its full name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def command_table(_: Words) -> str:
    """Return the table of all commands with a sentence each."""
    rows = [
        (f"[`{_title(name, command)}`](#{_anchor(name, command)})", _help(command)) for name, command in commands()
    ]
    return table(("command", "does"), rows)


def shared_options(_: Words) -> str:
    """Return the options that nearly every command has."""
    rows = []
    for shared in _SHARED:
        having = {
            name: option for name, command in commands() for option in _options(command) if shared in option.opts
        }
        without = [f"`{name}`" for name, command in commands() if name not in having]
        option = next(iter(having.values()))
        but = f"all but {', '.join(without)}" if without else "all"
        rows.append((_names(option), but, _option_text(option)))
    return table(("option", "of", "meaning"), rows)


def command_sections(_: Words) -> str:
    """Return a section for each command with its own options."""
    sections = []
    for name, command in commands():
        own = [option for option in _options(command) if option.opts[0] not in _SHARED]
        text = f"## `{_title(name, command)}`\n\n{inspect.cleandoc(command.help or '')}"
        if own:
            rows = [(_names(option), _option_text(option)) for option in own]
            text += f"\n\n{table(('option', 'meaning'), rows)}"
        sections.append(text)
    return "\n\n".join(sections)


def _title(name: str, command: click.Command) -> str:
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    words = [_argument(argument) for argument in arguments]
    return " ".join([name, *words])


def _argument(argument: click.Argument) -> str:
    name = str(argument.name).upper()
    return name if argument.required else f"[{name}]"


def _anchor(name: str, command: click.Command) -> str:
    kept = "".join(letter for letter in _title(name, command).lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _help(command: click.Command) -> str:
    first = inspect.cleandoc(command.help or "").partition("\n\n")[0]
    return first[:1].lower() + first[1:].rstrip(".")


def _options(command: click.Command) -> list[click.Option]:
    return [part for part in command.params if isinstance(part, click.Option) and not part.hidden]


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} `{'|'.join(option.type.choices)}`"
    return f"{names} `{option.metavar or option.type.name.split()[0].upper()}`"


def _option_text(option: click.Option) -> str:
    parts = [(option.help or "").rstrip(".")]
    if option.required:
        parts.append("required")
    elif isinstance(option.default, str | int | float) and not option.is_flag:
        parts.append(f"default `{option.default}`")
    elif option.is_flag and option.secondary_opts:
        parts.append(f"default `{(option.opts if option.default else option.secondary_opts)[0]}`")
    if option.envvar:
        parts.append(f"or the variable `{option.envvar}`")
    return "; ".join(part for part in parts if part)


def job_arguments(_: Words) -> str:
    """Return the arguments that jobs accept in addition to those of `run`."""
    return table(
        ("argument", "meaning"),
        [(", ".join(f"`{name}`" for name in names), text) for names, text in ARGUMENTS.items()],
    )


def old_names(_: Words) -> str:
    """Return the argument names of the previous jobs with their settings."""
    run = cli.commands["run"]
    own = {
        name: f"`{option.opts[0]}`" for option in _options(run) for name in option.opts if name.strip("-").isupper()
    }
    settings = {name: f"`{setting.format(dataset='<dataset>')}`" for name, setting in OLD_NAMES.items()}
    return table(("argument", "is"), [(f"`{name}`", text) for name, text in (own | settings).items()])


def metric_table(_: Words) -> str:
    """Return the metrics with their meaningful statistic."""
    rows = [
        (f"`{metric.name}`", _unit(metric), metric.statistic, metric.help[:1].lower() + metric.help[1:])
        for metric in metrics.METRICS
    ]
    return table(("metric", "unit", "statistic", "of a run"), rows)


def short_metric_table(_: Words) -> str:
    """Return the metrics without the statistic."""
    rows = [(f"`{m.name}`", _unit(m), m.help[:1].lower() + m.help[1:]) for m in metrics.METRICS]
    return table(("metric", "unit", "of a run"), rows)


def _unit(metric: metrics.Metric) -> str:
    return "" if metric.unit == "None" else metric.unit


def error_classes(kind: type[BucketwheelError] = BucketwheelError) -> Iterator[type[BucketwheelError]]:
    """Return the error classes of `errors.py` from the root down."""
    yield kind
    for part in kind.__subclasses__():
        if part.__module__ == errors.__name__:
            yield from error_classes(part)


def exit_codes(_: Words) -> str:
    """Return the meaning of each exit code and the errors that cause it."""
    rows = []
    for code, meaning in _MEANINGS.items():
        leaves = [
            f"`{error_class.__name__}`" for error_class in error_classes() if code and error_class.exit_code == code
        ]
        rows.append((str(code), meaning, ", ".join(leaves)))
    return table(("exit code", "meaning", "errors"), rows)


def error_table(_: Words) -> str:
    """Return every error with its parent, exit code, meaning and the fix that the advice names."""
    rows = [
        (
            f"`{error_class.__name__}`",
            f"`{error_class.__bases__[0].__name__}`" if error_class is not BucketwheelError else "",
            str(error_class.exit_code),
            (inspect.getdoc(error_class) or "").partition("\n\n")[0],
            error_class.fix or "none",
            "resume" if error_class.resumable else "new run",
        )
        for error_class in error_classes()
    ]
    return table(("error", "a kind of", "exit code", "meaning", "fix", "then"), rows)


def first_run_tables(_: Words) -> str:
    """Return what is not exercised on AWS, a table for each section, with the names of the dev environment."""
    deployment = Deployment(load("dev", _ROOT / "conf", environ={}).settings, "dev")
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    for item in first_run.items(deployment, every_platform=True):
        sections.setdefault(item.section, []).append((item.what, item.rests_on, item.steps, item.shows))
    header = ("not exercised", "rests on", "how to try", "should show")
    return "\n\n".join(f"## {title}\n\n{table(header, rows)}" for title, rows in sections.items())
