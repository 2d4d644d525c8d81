"""The commands for the stack of an environment: deploy render, diff, import, apply, destroy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bucketwheel.cli.options import configured, output_option, package_option, print_json
from bucketwheel.cli.terminal import echo_whole

if TYPE_CHECKING:
    from bucketwheel.api import Configuration


_yes = click.option("--yes", is_flag=True, help="Skip the confirmation.")


@click.group()
def deploy() -> None:
    """Render, compare, apply or remove the CloudFormation stack of an environment, or import resources into it."""


@deploy.command("render")
@click.option(
    "--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True, help="Output format."
)
@click.option("--to", "path", metavar="FILE", help="Output file; default stdout.")
@package_option
@configured
def _render(config: Configuration, form: str, path: str | None) -> None:
    """Write the CloudFormation template (needs no AWS account)."""
    from bucketwheel import api

    template = api.deploy_render(config, "json" if form == "json" else "yaml", path)
    echo_whole(template if path is None else path, nl=path is not None)


@deploy.command("diff")
@package_option
@configured
def _diff(config: Configuration) -> None:
    """Show how the template differs from the deployed one; changes nothing."""
    from bucketwheel import api

    echo_whole(api.deploy_diff(config) or "no difference")


@deploy.command("import")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only list the resources.")
@_yes
@package_option
@configured
def _import(config: Configuration, names: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Import existing jobs, roles, workgroups, log groups and buckets into the stack, then update it.

    NAME is the name of a resource on AWS; without one, all that exist outside of stacks are imported.
    """
    from bucketwheel import api
    from bucketwheel.formatting import counted

    imported = api.deploy_import(config, names, lambda text: _confirm(text, yes), _echo, dry_run)
    if dry_run:
        echo_whole("\n".join(map(str, imported.resources)) or "nothing to import")
        return
    if not imported.done:
        echo_whole("nothing was changed")
        raise click.Abort
    if not imported.resources:
        echo_whole("nothing to import: no resource of the template exists outside of the stack")
        return
    echo_whole(f"stack {imported.stack}: {counted(len(imported.resources), 'resource')} imported")
    applied = api.deploy_apply(config, lambda text: _confirm(text, yes), _echo)
    if not applied.done:
        echo_whole("imported, but not updated: `bucketwheel deploy apply` updates the stack")
        raise click.Abort
    echo_whole(f"stack {applied.stack}: {counted(len(applied.changes), 'change')}")


@deploy.command("apply")
@_yes
@package_option
@output_option
@configured
def _apply(config: Configuration, yes: bool, output: str) -> None:
    """Create or update the stack, after showing the changes and asking for confirmation."""
    from bucketwheel import api
    from bucketwheel.formatting import counted

    applied = api.deploy_apply(config, lambda text: _confirm(text, yes), _echo)
    if output == "json":
        print_json({**vars(applied), "changes": [vars(change) for change in applied.changes]})
    elif not applied.done:
        echo_whole("nothing was changed")
    else:
        what = counted(len(applied.changes), "change") if applied.changes else "already up to date"
        lines = [f"stack {applied.stack}: {what}", *(f"{name}: {value}" for name, value in applied.outputs.items())]
        echo_whole("\n".join(lines))
    if not applied.done:
        raise click.Abort


@deploy.command("destroy")
@_yes
@click.option(
    "--delete-buckets", is_flag=True, help="Also delete the buckets of the stack, with all versions of all files."
)
@configured
def _destroy(config: Configuration, yes: bool, delete_buckets: bool) -> None:
    """Delete the stack, after showing what is deleted and what stays and asking for confirmation."""
    from bucketwheel import api

    if not api.deploy_destroy(config, lambda text: _confirm(text, yes), _echo, delete_buckets):
        echo_whole("nothing was deleted")
        raise click.Abort
    echo_whole("deleted")


def _confirm(text: str, yes: bool) -> bool:
    echo_whole(text, err=True)
    return yes or click.confirm("Continue?", err=True)


def _echo(text: str) -> None:
    echo_whole(text, err=True)
