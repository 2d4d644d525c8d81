"""The commands that read the input: sample, config, plan, run."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import click

from bucketwheel.cli.options import (
    OLD_NAMES_HELP,
    Overrides,
    configured,
    dataset_argument,
    datasets,
    invocation,
    later_option,
    old_names,
    output_option,
    print_json,
    resume_option,
    run_again,
    set_option,
    snapshot_option,
    stages_option,
    tables_option,
)
from bucketwheel.cli.terminal import echo, echo_whole

if TYPE_CHECKING:
    from bucketwheel.api import Configuration


@click.command(epilog=OLD_NAMES_HELP)
@dataset_argument
@stages_option
@snapshot_option
@tables_option
@output_option
@old_names
@configured
def plan(
    config: Configuration,
    dataset: str | None,
    stages: tuple[str, ...],
    snapshot_dt: str | None,
    tables_filter: tuple[str, ...],
    output: str,
) -> None:
    """Show what a run would do, without changing anything."""
    from bucketwheel import api
    from bucketwheel.cli.text import plan_text

    plans = [api.plan(config, name, stages, snapshot_dt, tables_filter) for name in datasets(config, dataset)]
    if output == "json":
        print_json(
            {
                plan.dataset: {
                    "stages": plan.stages,
                    "discover": plan.discover.model_dump(exclude={"schema_ipc"}),
                    "split": plan.split.model_dump(),
                    "size": plan.size.model_dump(),
                    "cost": None if plan.cost is None else plan.cost.document(),
                    "drift": None if plan.drift is None else plan.drift.model_dump(),
                    "refused": plan.obstacles,
                    "accept": dict(part.accept for part in plan.refusals),
                    "advice": plan.advice.document(),
                    "withdrawn": [mark.model_dump(exclude={"inputs"}) for mark in plan.withdrawals],
                    "warnings": plan.warnings,
                }
                for plan in plans
            }
        )
    else:
        echo("\n\n".join(plan_text(plan) for plan in plans))


@click.command(epilog=OLD_NAMES_HELP)
@dataset_argument
@stages_option
@snapshot_option
@tables_option
@later_option
@resume_option
@click.option("--force", is_flag=True, help="Publish data that a rollback withdrew.")
@click.option(
    "--output",
    type=click.Choice(["text", "json", "log"]),
    default="text",
    show_default=True,
    help="text for people, json for programs; log: JSON lines as jobs print them.",
)
@click.option("--verbose", is_flag=True, help="Show each table and where it was published.")
@old_names
@configured
def run(
    config: Configuration,
    dataset: str | None,
    stages: tuple[str, ...],
    later_stages: tuple[str, ...] | None,
    snapshot_dt: str | None,
    tables_filter: tuple[str, ...],
    resume: str | None,
    force: bool,
    output: str,
    verbose: bool,
) -> None:
    """Run the pipeline, or some of its stages.

    Without DATASET, run all configured datasets.
    """
    from bucketwheel import api
    from bucketwheel.cli.progress import show_progress
    from bucketwheel.cli.summary import summary_text
    from bucketwheel.cli.text import run_text

    current, log = invocation(), None
    if current.platform:
        api.check_for_jobs(config)
    if output != "text":
        log = current.json_log()
    if resume and dataset is None:
        dataset = api.manifest(config, resume).dataset
    outcomes: list[api.RunOutcome] = []
    try:
        for name in datasets(config, dataset):
            # Close the progress bars before printing a result, because they control the terminal.
            with show_progress(output, log=log) as progress:
                given = (name, stages, snapshot_dt, tables_filter, resume, progress, run_again(config, name))
                write = log.write_line if log else None
                done = api.run(config, *given, log=write, force=force, later_stages=later_stages)
            if output == "text":
                cost = api.cost(config, done.manifest)
                text = (
                    run_text(done.manifest, done.changed, cost, done.state) if verbose else summary_text(config, done)
                )
                echo(f"\n{text}" if outcomes else text)
            outcomes.append(done)
    finally:
        # Print the finished datasets even if a later one fails.
        if output == "json" and outcomes:
            documents = [api.manifest_document(config, out.manifest) for out in outcomes]
            print_json([{"changed": out.changed, **part} for out, part in zip(outcomes, documents, strict=True)])


@click.command()
@output_option
@configured
def config(config: Configuration, output: str) -> None:
    """Print every setting and the origin of its value."""
    from bucketwheel.cli.terminal import table

    rows = config.rows()
    if output == "json":
        print_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
    else:
        echo(table(("setting", "value", "origin"), [(n, json.dumps(v), origin) for n, v, origin in rows]))


@click.command()
@click.argument("directory", default=".", metavar="[DIR]")
@click.option(
    "--source", metavar="PATH", help="Directory of the snapshots, local or s3://; default the only one in DIR."
)
@click.option("--key", metavar="COLUMN", help="Key column; several are separated by commas.")
@click.option("--dataset", metavar="NAME", help="Name of the dataset; default from the source.")
@click.option(
    "--readers",
    metavar="NAMES",
    help="Services that query the tables, separated by commas: athena, trino, clean_rooms, spark, glue, emr, duckdb; "
    "default from the catalog.",
)
@set_option
def init(
    directory: str,
    source: str | None,
    key: str | None,
    dataset: str | None,
    readers: str | None,
    overrides: Overrides,
) -> None:
    """Write the configuration and the mapping of a new project, proposed from its source.

    DIR is the project, by default this directory. Nothing in it is overwritten.
    """
    from bucketwheel import api
    from bucketwheel.cli.text import project_text

    if readers is not None:
        overrides = [
            *overrides,
            ("readers", [name.strip() for name in readers.split(",") if name.strip()], "--readers"),
        ]
    echo(project_text(api.init(directory, source, key, dataset, overrides)))


@click.command()
@click.argument("directory")
@click.option("--rows", type=click.IntRange(1), default=1_000_000, show_default=True, help="Number of people.")
@click.option(
    "--tables", type=click.IntRange(1), default=8, show_default=True, help="Number of tables in the mapping."
)
@click.option("--columns", type=click.IntRange(1), default=15, show_default=True, help="Columns per table.")
@click.option("--files", type=click.IntRange(1), default=4, show_default=True, help="Number of files.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=7,
    show_default=True,
    help="Random seed; the same seed writes the same data.",
)
@click.option("--snapshot-dt", default="2025-10-22", show_default=True, help="Date of the snapshot.")
@click.option(
    "--writer", default="pyarrow", show_default=True, help="Library that writes the files: pyarrow, duckdb or polars."
)
@click.option("--dirty", metavar="NAME", help="Write one kind of bad input; an unknown name lists all kinds.")
def sample(directory: str, **values: Any) -> None:
    """Write realistic sample data with a mapping."""
    from bucketwheel import api

    written = api.sample(directory, api.SampleSpec(**values))
    change = [] if directory == "." else [shlex.join(["cd", directory])]
    next_commands = [*change, f"bucketwheel run {written.source.parent.name}"]
    echo_whole("\n  ".join([f"{written.description}\nThen:", *next_commands]))
