"""The options that commands share, and the configuration they choose."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from bucketwheel.api import Configuration
    from bucketwheel.monitoring.json_log import JsonLog

Overrides = list[tuple[str, Any, str]]
Command = TypeVar("Command", bound=Callable[..., None])

# Names that the earlier jobs gave to settings. `--SNAPSHOT_DT` and `--TABLES_FILTER` are options of their own.
OLD_NAMES = {
    "--SOURCE_PATH": "datasets.{dataset}.source",
    "--CSV_PATH": "datasets.{dataset}.mapping",
    "--TARGET_PATH": "target",
    "--BUCKET_COUNT": "buckets.count",
    "--DATABASE": "catalog.database",
}
# Options that are one setting each.
_SETTING_OF = {**OLD_NAMES, "--package": "deploy.package"}
# What earlier jobs were given where nothing was chosen.
AUTOMATIC = ("", "_NONE_")
_GIVEN = "bucketwheel.old_names"

OLD_NAMES_HELP = (
    f"Also takes the names that earlier jobs used: --SNAPSHOT_DT, --TABLES_FILTER, {', '.join(OLD_NAMES)}; "
    "_NONE_ or nothing leaves the choice to the configuration."
)


@dataclass
class Invocation:
    """How the program was called, and the log that it writes, where that is for machines.

    `resuming` is the command that resumes a run, with `{dataset}` in it, where that is not the one given.
    """

    words: Sequence[str]
    log: JsonLog | None = None
    resuming: str = ""


def invocation() -> Invocation:
    """Return that of this moment."""
    return click.get_current_context().find_object(Invocation) or Invocation(sys.argv[1:])


def _text(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return None if value in AUTOMATIC else value


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    text = _text(context, parameter, value) or ""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _assignments(_: click.Context, __: click.Parameter, values: Sequence[str]) -> Overrides:
    found: Overrides = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE")
        found.append((name, text, "--set"))
    return found


def _keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and value not in AUTOMATIC:
        context.meta.setdefault(_GIVEN, {})[parameter.opts[0]] = value


def _old_settings(dataset: str | None) -> Overrides:
    found: Overrides = []
    context = click.get_current_context()
    for option, value in context.meta.get(_GIVEN, {}).items():
        setting = _SETTING_OF[option]
        if "{dataset}" in setting and dataset is None:
            raise click.UsageError(
                f"{option} belongs to one dataset; name it: {context.command_path} DATASET {option}=…"
            )
        # A quoted text is no YAML number or mapping, whatever it looks like.
        found.append((setting.format(dataset=dataset), json.dumps(value, ensure_ascii=False), option))
    return found


def old_names(command: Command) -> Command:
    """Let a command take settings under the names that earlier jobs used."""
    for name in OLD_NAMES:
        command = click.option(name, name.strip("-"), hidden=True, expose_value=False, callback=_keep)(command)
    return command


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose a configuration, and hand it the loaded one."""

    def wrapper(env: str, conf: str | None, overrides: Overrides, engine: str | None, **rest: Any) -> None:
        from bucketwheel import api

        settings = [*overrides, *_old_settings(rest.get("dataset")), *engine_setting(engine)]
        command(api.load(env, conf, settings), **rest)

    return update_wrapper(choosing(wrapper), command)


def engine_setting(engine: str | None) -> Overrides:
    """Return `--engine` as a setting."""
    return [("engine", engine, "--engine")] if engine else []


def choosing(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose a configuration, as they are."""
    for option in (
        click.option("--engine", help="Which engine: arrow, spark, or one that is installed."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            callback=_assignments,
            metavar="KEY=VALUE",
            help="Override a setting by its dotted name; may be repeated.",
        ),
        click.option(
            "--conf",
            metavar="DIR",
            envvar="BUCKETWHEEL_CONF",
            help="Directory of base.yaml and <env>.yaml; default ./conf.",
        ),
        click.option("--env", default="local", show_default=True, envvar="BUCKETWHEEL_ENV", help="Which <env>.yaml."),
    ):
        command = option(command)
    return command


output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or for machines: JSON on stdout, JSON progress on stderr.",
)
package_option = click.option(
    "--package",
    "package_place",
    expose_value=False,
    callback=_keep,
    metavar="S3_URI",
    help="The uploaded package that jobs run; default deploy.package.",
)
stages_option = click.option("--stages", callback=_names, metavar="A,B", help="Run only these stages.")
snapshot_option = click.option(
    "--snapshot-dt",
    "--SNAPSHOT_DT",
    "snapshot_dt",
    callback=_text,
    metavar="DATE",
    help="This snapshot, not the latest complete one; _NONE_ is the latest.",
)
tables_option = click.option(
    "--tables-filter", "--TABLES_FILTER", "tables_filter", callback=_names, metavar="T1,T2", help="Only these tables."
)


def datasets(config: Configuration, dataset: str | None) -> list[str]:
    """Return the dataset that was named, else all that are configured."""
    if dataset is None and not config.settings.datasets:
        raise click.UsageError(
            "no dataset is configured; add one below `datasets:` or use --set datasets.NAME.source=…"
        )
    return [dataset] if dataset else list(config.settings.datasets)


def resuming_command(dataset: str) -> str:
    """Return the `run` command line that was given, for one dataset and without its --resume."""
    called = invocation()
    if called.resuming:
        return called.resuming.replace("{dataset}", shlex.quote(dataset))
    kept: list[str] = []
    words = iter(called.words[1:])
    for word in words:
        if not word.startswith("-") or word == "--":
            continue  # The dataset, which is named below.
        # Every option of `run` has a value.
        option = [word] if "=" in word else [word, next(words)]
        if word.partition("=")[0] != "--resume":
            kept += option
    return shlex.join(["bucketwheel", "run", dataset, *kept])


def print_json(value: object) -> None:
    """Print a result for machines."""
    click.echo(json.dumps(value, indent=1, default=str))
