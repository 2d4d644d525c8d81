"""The commands for the catalog as a whole: catalog rebuild."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from bucketwheel.cli.completing import complete_dataset
from bucketwheel.cli.history import _warnings_only
from bucketwheel.cli.options import configured, output_option, print_json
from bucketwheel.cli.terminal import echo, table
from bucketwheel.errors import CatalogError

if TYPE_CHECKING:
    from bucketwheel.api import Configuration, Rebuild


@click.group()
def catalog() -> None:
    """Repair the catalog."""


@catalog.command("rebuild")
@click.argument("datasets", metavar="[DATASET]...", nargs=-1, shell_complete=complete_dataset)
@click.option("--dry-run", is_flag=True, help="List the tables, and change nothing.")
@click.option("--yes", is_flag=True, help="Change tables that show another run without asking.")
@output_option
@configured
def _rebuild(config: Configuration, datasets: tuple[str, ...], dry_run: bool, yes: bool, output: str) -> None:
    """Rebuild a damaged or lost catalog from the manifests.

    Publishes every table as it was last published, without withdrawn runs, and moves a damaged catalog file aside.
    Rebuilds all datasets unless some are named.
    """
    from bucketwheel import api
    from bucketwheel.formatting import counted

    result = api.catalog_rebuild_plan(config, datasets, _warnings_only)
    replaced = len(result.replaced)
    if not dry_run:
        if replaced and not yes:
            what = f"{counted(replaced, 'table')} in the catalog would show another run"
            if not sys.stdin.isatty():
                raise click.UsageError(f"{what}; add --yes, or look with --dry-run")
            echo(_text(result), err=True)
            click.confirm(f"{what}. Change them?", abort=True, err=True)
        result = api.catalog_rebuild(config, datasets, lambda _: None, replace=True)
    if output == "json":
        print_json(
            {
                "tables": [vars(each) for each in result.tables],
                "problems": list(result.problems),
                "damaged": result.damaged or None,
                "set_aside": result.set_aside or None,
            }
        )
    else:
        echo(_text(result))
        changed = sum(each.action != "unchanged" for each in result.tables)
        verb = "to rebuild" if dry_run else "rebuilt"
        echo(f"\n{counted(changed, 'table')} {verb}" if changed else "nothing to rebuild")
        if result.set_aside:
            echo(f"the damaged catalog is kept: {result.set_aside}")
    if result.problems:
        raise CatalogError("; ".join(result.problems))


def _text(result: Rebuild) -> str:
    """Return one line per table."""
    rows = [
        (each.name, each.action, each.snapshot_dt, each.run_id, each.shown or "-")
        for each in result.tables
        if each.action != "unchanged"
    ]
    if not rows:
        return "every table in the catalog is as it was last published"
    return table(("table", "action", "snapshot", "run", "shown now"), rows, ("snapshot", "shown now"))
