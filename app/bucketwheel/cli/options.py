"""The options that several commands share, and the configuration that they select."""

from __future__ import annotations

import gc
import itertools
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bucketwheel.cli.completing import (
    complete_dataset,
    complete_engine,
    complete_env,
    complete_run,
    complete_setting,
    complete_stages,
)
from bucketwheel.cli.terminal import Color, chosen_color, echo_whole

if TYPE_CHECKING:
    from bucketwheel.api import Configuration
    from bucketwheel.monitoring.json_log import JsonLog

Overrides = list[tuple[str, Any, str]]
Command = TypeVar("Command", bound=Callable[..., None])

# Settings by the argument names of the earlier jobs. `--SNAPSHOT_DT` and `--TABLES_FILTER` are options of their own.
OLD_NAMES = {
    "--SOURCE_PATH": "datasets.{dataset}.source",
    "--CSV_PATH": "datasets.{dataset}.mapping",
    "--TARGET_PATH": "target",
    "--BUCKET_COUNT": "buckets.count",
    "--DATABASE": "catalog.database",
}
# Options that are shortcuts for one setting each.
_SETTING_OF = {**OLD_NAMES, "--package": "deploy.package"}
# What earlier jobs passed for "not set".
AUTOMATIC = ("", "_NONE_")
_OUTPUT = re.compile("--output(=|$)")
_GIVEN = "bucketwheel.old_names"

OLD_NAMES_HELP = (
    f"The argument names of earlier jobs work too: --SNAPSHOT_DT, --TABLES_FILTER, {', '.join(OLD_NAMES)}; "
    "an empty value or _NONE_ means the configured value."
)


@dataclass
class Invocation:
    """The command line that was given, the JSON log if the output is for machines, and whether to color text.

    `again` is the command that runs a dataset again, with a placeholder `{dataset}`; empty to use `words`.
    `platform` is `glue` or `emr-serverless` for a job there.
    """

    words: Sequence[str]
    log: JsonLog | None = None
    color: Color = None
    again: str = ""
    platform: str = ""

    @property
    def output(self) -> str:
        """The value of `--output`, also if the rest of the command line is wrong; `log` if a log was given."""
        pairs = itertools.pairwise([*self.words, ""])
        given = [after if word == "--output" else word for word, after in pairs if _OUTPUT.match(word)]
        known = [value for text in given if (value := text.removeprefix("--output=")) in ("text", "json", "log")]
        return known[-1] if known else "text" if self.log is None else "log"

    def json_log(self) -> JsonLog:
        """Return the log for events and errors: on stdout for `--output log`, else on stderr."""
        from bucketwheel.monitoring.json_log import JsonLog

        self.log = self.log or JsonLog(sys.stdout if self.output == "log" else sys.stderr)
        return self.log


def invocation() -> Invocation:
    """Return the invocation of the running command."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Invocation) if context is not None else None
    return found or Invocation(sys.argv[1:])


def _text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return None if value in AUTOMATIC else value


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    text = _text(context, parameter, value) or ""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _later(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value in (None, *AUTOMATIC):
        return None
    return () if value == "none" else _names(context, parameter, value)


def _assignments(_: click.Context, __: click.Parameter, values: Sequence[str]) -> Overrides:
    overrides: Overrides = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE")
        overrides.append((name, text, "--set"))
    return overrides


def _keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and value not in AUTOMATIC:
        context.meta.setdefault(_GIVEN, {})[parameter.opts[0]] = value


def _old_settings(dataset: str | None) -> Overrides:
    overrides: Overrides = []
    context = click.get_current_context()
    for option, value in context.meta.get(_GIVEN, {}).items():
        setting = _SETTING_OF[option]
        if "{dataset}" in setting and dataset is None:
            raise click.UsageError(
                f"{option} applies to one dataset; name it: {context.command_path} DATASET {option}=…"
            )
        # Quoted, so that YAML reads it as a string even if it looks like a number or a mapping.
        overrides.append((setting.format(dataset=dataset), json.dumps(value, ensure_ascii=False), option))
    return overrides


def old_names(command: Command) -> Command:
    """Let a command accept settings under the argument names of earlier jobs."""
    for name in OLD_NAMES:
        command = click.option(name, name.strip("-"), hidden=True, expose_value=False, callback=_keep)(command)
    return command


@contextmanager
def _without_collections() -> Iterator[None]:
    """Import modules for the first time without garbage collections, and exclude their objects from later ones.

    Nearly all of these objects live until the process ends, and each full collection would visit them.
    """
    if "bucketwheel.api" in sys.modules:
        # By now, the process may hold garbage as well.
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select a configuration to a command, and pass it the loaded configuration."""

    def wrapper(env: str, conf: str | None, overrides: Overrides, engine: str | None, **rest: Any) -> None:
        with _without_collections():
            from bucketwheel import api

        settings = [*overrides, *_old_settings(rest.get("dataset")), *engine_setting(engine)]
        command(api.load(env, conf, settings), **rest)

    return update_wrapper(choosing(wrapper), command)


def engine_setting(engine: str | None) -> Overrides:
    """Return `--engine` as a setting."""
    return [("engine", engine, "--engine")] if engine else []


set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    callback=_assignments,
    metavar="KEY=VALUE",
    shell_complete=complete_setting,
    help="Override a setting by its dotted name; repeatable.",
)


def choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select a configuration to a command, which gets their values."""
    for option in (
        click.option(
            "--engine", shell_complete=complete_engine, help="Engine: arrow, spark, or the name of an installed one."
        ),
        set_option,
        click.option(
            "--conf",
            metavar="DIR",
            type=click.Path(file_okay=False),
            envvar="BUCKETWHEEL_CONF",
            help="Directory with base.yaml and <env>.yaml; default ./conf.",
        ),
        click.option(
            "--env",
            default="local",
            show_default=True,
            envvar="BUCKETWHEEL_ENV",
            shell_complete=complete_env,
            help="Name of the environment: reads <env>.yaml.",
        ),
    ):
        command = option(command)
    return command


output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="text for people; json: the result on stdout, progress on stderr, both as JSON.",
)
package_option = click.option(
    "--package",
    "package_place",
    expose_value=False,
    callback=_keep,
    metavar="S3_URI",
    help="Uploaded package for the jobs; default deploy.package.",
)
dataset_argument = click.argument("dataset", required=False, shell_complete=complete_dataset)
run_argument = click.argument("run_id", shell_complete=complete_run)
resume_option = click.option(
    "--resume", metavar="RUN_ID|last", shell_complete=complete_run, help="Resume a run that did not finish."
)
stages_option = click.option(
    "--stages", callback=_names, metavar="A,B", shell_complete=complete_stages, help="Run only these stages."
)
later_option = click.option(
    "--later-stages",
    callback=_later,
    metavar="A,B|none",
    shell_complete=complete_stages,
    help="Stages that other jobs will run; default the configured ones. What they need is checked first.",
)
snapshot_option = click.option(
    "--snapshot-dt",
    "--SNAPSHOT_DT",
    "snapshot_dt",
    callback=_text,
    metavar="DATE",
    help="Date of the snapshot; default (or _NONE_) the latest complete one.",
)
tables_option = click.option(
    "--tables-filter", "--TABLES_FILTER", "tables_filter", callback=_names, metavar="T1,T2", help="Only these tables."
)


def color_option() -> click.Option:
    """Return the option `--color`."""
    return click.Option(
        ["--color"],
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        is_eager=True,
        expose_value=False,
        callback=_set_color,
        help="Color text; auto: on a terminal, unless NO_COLOR is set.",
    )


def _set_color(context: click.Context, _: click.Parameter, value: str) -> None:
    given = context.find_object(Invocation)
    # The option of a command wins over that of `bucketwheel` only if it was given.
    if value != "auto" or context.parent is None:
        context.color = chosen_color(value)
        if given is not None:
            given.color = context.color


def datasets(config: Configuration, dataset: str | None) -> list[str]:
    """Return the dataset that was named, or all configured ones."""
    if dataset is None and not config.settings.datasets:
        raise click.UsageError(
            "no dataset is configured; create a configuration (bucketwheel init --source PATH --key COLUMN), "
            "add a dataset under `datasets:`, or use --set datasets.NAME.source=…"
        )
    return [dataset] if dataset else list(config.settings.datasets)


def run_again(config: Configuration, dataset: str) -> str:
    """Return the given `run` command line for one dataset, without --resume."""
    from bucketwheel import advice

    current = invocation()
    if current.again:
        return current.again.replace("{dataset}", shlex.quote(dataset))
    flags = _flags(click.get_current_context().command)
    kept: list[str] = []
    words = iter(current.words[1:])
    for word in words:
        if not word.startswith("-") or word == "--":
            continue  # The dataset: it is added below.
        option = [word] if "=" in word or word in flags else [word, next(words)]
        if word.partition("=")[0] != "--resume":
            kept += option
    return advice.command(config, ["bucketwheel", "run", dataset], kept, given=True)


def _flags(command: click.Command) -> set[str]:
    """Return the names of the options of a command that take no value."""
    options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
    return {name for option in options if option.is_flag or option.count for name in option.opts}


def print_json(value: object) -> None:
    """Print a result as JSON."""
    echo_whole(json.dumps(value, indent=1, default=str))
