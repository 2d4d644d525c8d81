"""The command line: parse, call one function of `api`, print the result.

Results go to stdout, everything else to stderr. Exit codes are those of `errors`; Ctrl-C ends with 130.
Modules that read Parquet are imported by the commands that need them, so that `--help` is instant.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bucketwheel import __version__
from bucketwheel.errors import BucketwheelError

if TYPE_CHECKING:
    from bucketwheel.config import Configuration

Overrides = list[tuple[str, Any, str]]


def _names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def _assignments(_: click.Context, __: click.Parameter, values: Sequence[str]) -> Overrides:
    found: Overrides = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE")
        found.append((name, text, "--set"))
    return found


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose a configuration, and hand it the loaded one."""

    def wrapper(env: str, conf: str | None, overrides: Overrides, engine: str | None, **rest: Any) -> None:
        from bucketwheel import api

        flags = [("engine", engine, "--engine")] if engine else []
        command(api.load(env, conf, [*overrides, *flags]), **rest)

    for option in (
        click.option("--engine", help="arrow, or one that is installed."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            callback=_assignments,
            metavar="KEY=VALUE",
            help="Override one setting.",
        ),
        click.option("--conf", metavar="DIR", help="Directory of base.yaml and <env>.yaml; default ./conf."),
        click.option(
            "--env", default="local", show_default=True, envvar="BUCKETWHEEL_ENV", help="Which environment."
        ),
    ):
        wrapper = option(wrapper)
    return update_wrapper(wrapper, command)


output_option = click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or machines."
)
stages_option = click.option("--stages", callback=_names, metavar="A,B", help="Run only these stages.")
snapshot_option = click.option("--snapshot-dt", metavar="DATE", help="Take this snapshot, not the latest.")
tables_option = click.option("--tables-filter", callback=_names, metavar="T1,T2", help="Make only these tables.")


@click.group()
@click.version_option(__version__, prog_name="bucketwheel")
def cli() -> None:
    """Turn a wide monthly Parquet snapshot into narrow, Hive-bucketed, catalogued tables."""


@cli.command()
@click.argument("dataset", required=False)
@stages_option
@snapshot_option
@tables_option
@output_option
@configured
def plan(
    config: Configuration,
    dataset: str | None,
    stages: tuple[str, ...],
    snapshot_dt: str | None,
    tables_filter: tuple[str, ...],
    output: str,
) -> None:
    """Show what a run would do; changes nothing."""
    from bucketwheel import api
    from bucketwheel.observe.text import plan_text

    plans = [api.plan(config, name, stages, snapshot_dt, tables_filter) for name in _datasets(config, dataset)]
    if output == "json":
        _print_json(
            {
                found.dataset: {
                    "stages": found.stages,
                    "discover": found.discover.model_dump(exclude={"schema_ipc"}),
                    "split": found.split.model_dump(),
                    "size": found.size.model_dump(),
                }
                for found in plans
            }
        )
    else:
        click.echo("\n\n".join(plan_text(found) for found in plans))


@cli.command()
@click.argument("dataset", required=False)
@stages_option
@snapshot_option
@tables_option
@click.option("--resume", metavar="RUN_ID|last", help="Go on with a run that did not finish.")
@output_option
@configured
def run(
    config: Configuration,
    dataset: str | None,
    stages: tuple[str, ...],
    snapshot_dt: str | None,
    tables_filter: tuple[str, ...],
    resume: str | None,
    output: str,
) -> None:
    """Run the pipeline, or some of its stages; all datasets unless one is named."""
    from bucketwheel import api
    from bucketwheel.observe.progress import shown
    from bucketwheel.observe.text import run_text

    outcomes = []
    with shown(output) as progress:
        for name in _datasets(config, dataset):
            command = _resuming_command(name, dataset)
            outcomes.append(api.run(config, name, stages, snapshot_dt, tables_filter, resume, progress, command))
    if output == "json":
        _print_json([{"changed": out.changed, **out.manifest.model_dump(mode="json")} for out in outcomes])
    else:
        click.echo("\n\n".join(run_text(out.manifest, out.changed) for out in outcomes))


@cli.command()
@click.argument("dataset", required=False)
@output_option
@configured
def runs(config: Configuration, dataset: str | None, output: str) -> None:
    """List the runs below the target."""
    from bucketwheel import api
    from bucketwheel.observe.text import runs_text

    found = api.runs(config, dataset)
    if output == "json":
        _print_json([manifest.model_dump(mode="json", exclude={"stages"}) for manifest in found])
    else:
        click.echo(runs_text(found))


@cli.command()
@click.argument("run_id")
@output_option
@configured
def show(config: Configuration, run_id: str, output: str) -> None:
    """Show one run; --output json gives its whole manifest."""
    from bucketwheel import api
    from bucketwheel.observe.text import run_text

    manifest = api.manifest(config, run_id)
    if output == "json":
        _print_json(manifest.model_dump(mode="json"))
        return
    click.echo(run_text(manifest, changed=True))
    for name, record in manifest.stages.items():
        click.echo(f"{name}: {record.seconds:.1f} s from {record.started}")
        for warning in record.result.get("warnings", ()):
            click.echo(f"warning: {warning}")
    if manifest.error:
        click.echo(f"failed: {manifest.error}")


@cli.command()
@click.argument("run_id")
@output_option
@configured
def verify(config: Configuration, run_id: str, output: str) -> None:
    """Read every file of a run back and compare it with its manifest."""
    from bucketwheel import api
    from bucketwheel.observe.progress import shown

    with shown(output) as progress:
        result = api.verify(config, run_id, progress)
    if output == "json":
        _print_json(result.model_dump())
    else:
        files = sum(table.files for table in result.tables)
        click.echo(
            f"{run_id}: {result.rows:,} rows in each of {len(result.tables)} tables, {files} files: all as written"
        )


@cli.command()
@click.argument("run_id")
@output_option
@configured
def rollback(config: Configuration, run_id: str, output: str) -> None:
    """Publish the tables of another run again: all of them or none."""
    from bucketwheel import api

    result = api.rollback(config, run_id)
    if output == "json":
        _print_json(result.model_dump())
    else:
        click.echo("\n".join(f"published {table.name} -> {table.location}" for table in result.tables))


@cli.command()
@click.argument("dataset", required=False)
@click.option("--keep", type=int, required=True, help="How many finished runs to keep in each dataset.")
@output_option
@configured
def expire(config: Configuration, dataset: str | None, keep: int, output: str) -> None:
    """Delete the files of old runs that no catalog table points to."""
    from bucketwheel import api
    from bucketwheel.observe.text import size

    expired = api.expire(config, keep, [dataset] if dataset else [])
    if output == "json":
        _print_json([vars(run) for run in expired])
    else:
        click.echo("\n".join(f"deleted {run.run_id}, {size(run.bytes)}" for run in expired) or "nothing to delete")


@cli.command()
@click.argument("run_id")
@click.option("--to", "path", metavar="FILE", help="Where to write it; default ./bucketwheel-RUN_ID.html.")
@configured
def report(config: Configuration, run_id: str, path: str | None) -> None:
    """Write one HTML page with charts about a run."""
    from bucketwheel import api
    from bucketwheel.storage import translated

    page = api.report(config, run_id)
    place = Path(path or f"bucketwheel-{run_id}.html")
    with translated(str(place), "write"):
        place.write_text(page, encoding="utf-8")
    click.echo(place)


@cli.command()
@output_option
@configured
def config(config: Configuration, output: str) -> None:
    """Print every setting and where its value came from."""
    from bucketwheel.observe.text import table

    rows = config.rows()
    if output == "json":
        _print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
    else:
        click.echo(table(("setting", "value", "origin"), [(n, json.dumps(v), origin) for n, v, origin in rows]))


@cli.command()
@click.argument("directory")
@click.option("--rows", type=click.IntRange(0), default=1_000_000, show_default=True)
@click.option("--tables", type=click.IntRange(1), default=8, show_default=True)
@click.option("--columns", type=click.IntRange(1), default=15, show_default=True, help="Columns of each table.")
@click.option("--files", type=click.IntRange(1), default=4, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--snapshot-dt", default="2025-10-22", show_default=True)
@click.option("--writer", default="pyarrow", show_default=True, help="pyarrow, duckdb or polars.")
@click.option("--dirty", metavar="NAME", help="Make one kind of bad input; an unknown name lists all.")
def sample(directory: str, **values: Any) -> None:
    """Write realistic sample data with a mapping."""
    from bucketwheel import api

    made = api.sample(directory, api.SampleSpec(**values))
    click.echo(made.description)


def _datasets(config: Configuration, dataset: str | None) -> list[str]:
    if dataset is None and not config.settings.datasets:
        raise click.UsageError(
            "no dataset is configured; add one below `datasets:` or use --set datasets.NAME.source=…"
        )
    return [dataset] if dataset else list(config.settings.datasets)


def _resuming_command(name: str, given: str | None) -> str:
    """Return the command line of this process for one dataset, without its --resume."""
    words = [word for word in sys.argv[1:] if word != given or given is None]
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word == "--resume":
            skip = True
        elif not word.startswith("--resume="):
            kept.append(word)
    return shlex.join(["bucketwheel", kept[0] if kept else "run", name, *kept[1:]])


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=1, default=str))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    try:
        cli.main(arguments and list(arguments), prog_name="bucketwheel", standalone_mode=False)
    except BucketwheelError as error:
        click.echo(f"error: {error}", err=True)
        for note in getattr(error, "__notes__", ()):
            click.echo(note, err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo("interrupted", err=True)
        for note in getattr(error, "__notes__", ()):
            click.echo(note, err=True)
        sys.exit(130)
