"""The command that packages the application for AWS."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from bucketwheel.cli.options import configured, output_option, print_json
from bucketwheel.cli.terminal import echo_whole

if TYPE_CHECKING:
    from bucketwheel.api import Configuration

_DEFAULT = "deploy.artifacts"


@click.command()
@click.option("--to", default="build/package", show_default=True, metavar="DIR", help="Output directory.")
@click.option("--source", metavar="DIR", help="Checkout to package; default the one that this program runs from.")
@click.option("--archive", metavar="FILE", help="Python environment as .tar.gz; default: built with Docker.")
@click.option(
    "--without-archive", is_flag=True, help="Leave the Python environment out, for a custom image on EMR Serverless."
)
@click.option("--without-docker", is_flag=True, help="Build the Python environment with pip instead of Docker.")
@click.option(
    "--upload",
    is_flag=False,
    flag_value=_DEFAULT,
    metavar="[S3_URI]",
    help="Upload to this S3 location; without a value, to deploy.artifacts.",
)
@output_option
@configured
def package(
    config: Configuration,
    to: str,
    source: str | None,
    archive: str | None,
    without_archive: bool,
    without_docker: bool,
    upload: str | None,
    output: str,
) -> None:
    """Package wheel, script, configuration and Python environment, reproducibly."""
    from bucketwheel import api
    from bucketwheel.formatting import size_text, table

    names = ("--archive", "--without-archive", "--without-docker")
    used = [name for name, value in zip(names, (archive, without_archive, without_docker), strict=True) if value]
    if len(used) > 1:
        raise click.UsageError(f"{' and '.join(used)} exclude each other; use one of them")
    packed = api.package(config, to, source, archive, without_archive, without_docker)
    if upload:
        packed = api.upload(config, packed, None if upload == _DEFAULT else upload)
    if output == "json":
        print_json({**asdict(packed), "directory": str(packed.directory)})
        return
    rows = [(file.sha256, size_text(file.bytes), file.name) for file in packed.files]
    echo_whole(table(("sha256", "size", "file"), rows))
    echo_whole(f"\n{packed.digest}  {packed.directory}")
    if packed.location:
        # The last line, for scripts.
        echo_whole(packed.location)
