"""The commands for tables and existing runs: tables, runs, show, verify, rollback, unmark, expire, report."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from bucketwheel.cli.completing import complete_dataset, complete_run
from bucketwheel.cli.options import configured, dataset_argument, invocation, output_option, print_json, run_argument
from bucketwheel.cli.terminal import echo, echo_whole
from bucketwheel.errors import CatalogError
from bucketwheel.safe_text import one_line

if TYPE_CHECKING:
    from bucketwheel.api import Configuration, Progress


@click.command()
@dataset_argument
@output_option
@configured
def runs(config: Configuration, dataset: str | None, output: str) -> None:
    """List the runs below the target."""
    from bucketwheel import api
    from bucketwheel.cli.live_text import run_document, runs_text

    states = api.run_states(config, dataset, _warn)
    if output == "json":
        print_json([run_document(state) for state in states])
    else:
        echo(runs_text(states))


@click.command()
@dataset_argument
@output_option
@configured
def tables(config: Configuration, dataset: str | None, output: str) -> None:
    """Show what is live: the run, snapshot, rows and files of every published table."""
    from bucketwheel import api
    from bucketwheel.cli.live_text import tables_document, tables_text

    datasets = api.tables(config, dataset)
    if output == "json":
        print_json([tables_document(live) for live in datasets])
    else:
        echo("\n\n".join(map(tables_text, datasets)) or "no dataset is configured")
    for live in datasets:
        for warning in live.warnings:
            _warn(warning)
    if problems := [problem for live in datasets for problem in live.problems]:
        raise CatalogError("; ".join(problems))


@click.command()
@run_argument
@output_option
@click.option("--verbose", is_flag=True, help="Show where each table was published.")
@configured
def show(config: Configuration, run_id: str, output: str, verbose: bool) -> None:
    """Show one run; `--output json` prints its whole manifest."""
    from bucketwheel import api
    from bucketwheel.cli.live_text import run_document
    from bucketwheel.cli.text import run_text, stages_text

    state = api.run_state(config, run_id, _warn)
    manifest = state.manifest
    cost = api.cost(config, manifest)
    if output == "json":
        document = run_document(state, api.manifest_document(config, manifest))
        print_json({**document, "cost": None if cost is None else cost.document()})
        return
    echo(run_text(manifest, True, cost, state.status_text, state.live_text, locations=verbose))
    if manifest.stages:
        echo(f"\n{stages_text(manifest)}")
    for record in manifest.stages.values():
        for warning in record.result.get("warnings", ()):
            echo(f"warning: {one_line(warning)}")
    if manifest.error:
        echo(f"failed: {manifest.error}")
    for note in manifest.notes:
        echo(f"note: {note}")


@click.command()
@run_argument
@output_option
@configured
def verify(config: Configuration, run_id: str, output: str) -> None:
    """Read footer and keys of every file of a run and compare them with its manifest."""
    from bucketwheel import api
    from bucketwheel.cli.progress import show_progress

    run_id = api.manifest(config, run_id).run_id
    with show_progress(output) as progress:
        result = api.verify(config, run_id, progress)
    if output == "json":
        print_json(result.model_dump())
    else:
        from bucketwheel.formatting import counted

        tables = result.tables
        each = counted(len(tables), "table") if len(tables) == 1 else f"each of {counted(len(tables), 'table')}"
        files = counted(sum(table.files for table in tables), "file")
        echo(f"{run_id}: {counted(result.rows, 'row')} in {each}, {files}: rows, types and keys match the manifest")


@click.command()
@click.argument("run_id", required=False, shell_complete=complete_run)
@click.option(
    "--previous",
    metavar="DATASET",
    shell_complete=complete_dataset,
    help="Roll back to the run published before the current one.",
)
@click.option("--reason", default="", help="Reason, quoted when `run` refuses to publish the same data.")
@click.option("--force", is_flag=True, help="Publish a run that is itself marked as withdrawn.")
@output_option
@click.option("--verbose", is_flag=True, help="Show each table and where it is.")
@configured
def rollback(
    config: Configuration,
    run_id: str | None,
    previous: str | None,
    reason: str,
    force: bool,
    output: str,
    verbose: bool,
) -> None:
    """Publish the tables of an earlier run again: all of them or none.

    Marks the later runs that it replaces as withdrawn: `run` does not publish their data again.
    """
    from bucketwheel import api
    from bucketwheel.cli.summary import rollback_text

    if (run_id is None) == (previous is None):
        raise click.UsageError(
            "name a run, or a dataset with --previous: rollback RUN_ID, rollback --previous DATASET"
        )
    manifest = api.manifest(config, run_id or api.previous_run(config, previous or ""))
    result = api.rollback(config, manifest.run_id, _warnings_only, reason, force)
    if output == "json":
        print_json(result.model_dump())
        return
    echo(rollback_text(config, manifest, result))
    if verbose:
        echo("\n".join(one_line(f"published {table.name} -> {table.location}") for table in result.tables))


@click.command()
@run_argument
@output_option
@configured
def unmark(config: Configuration, run_id: str, output: str) -> None:
    """Remove the withdrawn mark of a run, so that its data can be published again."""
    from bucketwheel import api

    mark = api.unmark(config, run_id)
    if output == "json":
        print_json(mark.model_dump())
    else:
        echo(
            f"{mark.text}; the mark is removed, and the next run of its snapshot publishes it, also one of a schedule"
        )


@click.command()
@dataset_argument
@click.option("--keep", type=int, required=True, help="Number of finished runs to keep per dataset.")
@click.option("--dry-run", is_flag=True, help="List what would be deleted, and delete nothing.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@click.option(
    "--forget-catalog",
    "forgotten",
    multiple=True,
    metavar="ID",
    help="A catalog that no longer shows any run, by the id in the error about it (repeatable).",
)
@output_option
@configured
def expire(
    config: Configuration,
    dataset: str | None,
    keep: int,
    dry_run: bool,
    yes: bool,
    forgotten: tuple[str, ...],
    output: str,
) -> None:
    """Delete the files of old runs that no catalog table points to.

    Lists the runs and asks first. Keeps runs that were live in the last `expire.min_age_hours`. Reads every catalog
    in which the runs were published, and also finds data of runs without a manifest.
    """
    from bucketwheel import api
    from bucketwheel.cli.text import expirable_text
    from bucketwheel.formatting import counted, size_text

    selected = [dataset] if dataset else []
    runs = api.expirable(config, keep, selected, _warnings_and_kept, forgotten)
    if (runs or forgotten) and not dry_run:
        if runs and not yes:
            if not sys.stdin.isatty():
                raise click.UsageError(
                    f"expire deletes {counted(len(runs), 'run')}; add --yes, or look with --dry-run"
                )
            echo(expirable_text(runs), err=True)
            click.confirm(f"Delete {counted(len(runs), 'run')}?", abort=True, err=True)
        runs = api.expire(config, keep, selected, lambda _: None, [run.run_id for run in runs], forgotten)
    if output == "json":
        print_json([vars(run) for run in runs])
    elif dry_run:
        echo(expirable_text(runs) if runs else "nothing to delete")
    else:
        echo("\n".join(f"deleted {run.run_id}, {size_text(run.bytes)}" for run in runs) or "nothing to delete")


@click.command()
@run_argument
@click.option("--to", "path", metavar="FILE", help="Output file; default ./bucketwheel-RUN_ID.html.")
@configured
def report(config: Configuration, run_id: str, path: str | None) -> None:
    """Write an HTML report with charts about one run."""
    from bucketwheel import api

    echo_whole(api.write_report(config, run_id, path))


def _warn(text: str) -> None:
    if invocation().output == "text":
        echo(f"warning: {one_line(text)}", err=True)
    else:
        invocation().json_log().write("WARNING", text)


def _warnings_and_kept(step: Progress) -> None:
    _warnings_only(step)
    if step.state == "skipped":
        if invocation().output == "text":
            echo(one_line(step.message), err=True)
        else:
            invocation().json_log().write("INFO", step.message)


def _warnings_only(step: Progress) -> None:
    if step.state == "warning":
        _warn(step.message)
