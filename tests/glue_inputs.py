"""The tables of a run as the Glue catalog would have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bucketwheel.catalogs.definitions import definitions
from bucketwheel.catalogs.glue_table import new_input
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.runs.manifest import Manifest
from bucketwheel.settings import Settings


def table_inputs(manifest: Manifest, settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield what the Glue catalog would send AWS for the tables of a run, in the form of `TableInput`."""
    catalog = settings.catalog.model_copy(update={"kind": "glue", "path": None, "final_prefix": ""})
    glue = settings.model_copy(update={"catalog": catalog})
    services = make_services(glue, RunRequest(manifest.dataset), lambda _: None)
    yield from map(new_input, definitions(manifest, services, "ctas"))
