"""The command that packs the application for AWS."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bucketwheel.cli.options import configured, output_option, print_json

if TYPE_CHECKING:
    from bucketwheel.api import Configuration

_DEFAULT = "deploy.artifacts"


@click.command()
@click.option("--to", default="build/package", show_default=True, metavar="DIR", help="Where to put it together.")
@click.option("--source", metavar="DIR", help="A checkout; default the one this program is from.")
@click.option("--archive", metavar="FILE", help="The Python environment as .tar.gz; default builds it with Docker.")
@click.option("--without-archive", is_flag=True, help="Leave it out, for an image on EMR Serverless.")
@click.option(
    "--upload",
    is_flag=False,
    flag_value=_DEFAULT,
    metavar="[S3_URI]",
    help="Put it on S3, below this or below deploy.artifacts.",
)
@output_option
@configured
def package(
    config: Configuration,
    to: str,
    source: str | None,
    archive: str | None,
    without_archive: bool,
    upload: str | None,
    output: str,
) -> None:
    """Pack wheel, script, configuration and Python environment; the same input gives the same bytes."""
    from bucketwheel import api
    from bucketwheel.report.formatting import size, table

    if archive and without_archive:
        raise click.UsageError("--archive and --without-archive contradict each other; give one of them")
    packed = api.package(config, to, source, archive, without_archive)
    if upload:
        packed = api.upload(config, packed, None if upload == _DEFAULT else upload)
    if output == "json":
        print_json({**asdict(packed), "directory": str(packed.directory)})
        return
    rows = [(file.sha256, size(file.bytes), file.name) for file in packed.files]
    click.echo(table(("sha256", "size", "file"), rows))
    click.echo(f"\n{packed.digest}  {packed.directory}")
    if packed.location:
        # The last line, for scripts.
        click.echo(packed.location)
