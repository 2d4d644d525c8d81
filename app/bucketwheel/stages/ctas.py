"""Ctas: publish the final tables by promoting the files, which already are buckets; no data moves."""

from __future__ import annotations

from bucketwheel.contracts import Services
from bucketwheel.manifest import DiscoverResult, Manifest, PublishResult
from bucketwheel.publish import definitions, publish_all
from bucketwheel.storage import join


class Ctas:
    """Points `bucketed_<table>` at the files of this run and notes the snapshot date for other jobs."""

    name = "ctas"
    requires = ("discover", "split", "size", "bucket", "verify")

    def run(self, manifest: Manifest, services: Services) -> PublishResult:
        """See `contracts.Stage.run`."""
        catalog = services.settings.catalog
        tables = definitions(manifest, services.storage, services.settings.target, catalog.final_prefix)
        result = publish_all(services.catalog(), services.fence, tables, catalog.adopt)
        with services.fence.guard():
            note = join(services.settings.target, services.dataset, "metadata", "snapshot_dt.txt")
            services.storage.write(note, manifest.result("discover", DiscoverResult).snapshot_dt.encode())
        return result
