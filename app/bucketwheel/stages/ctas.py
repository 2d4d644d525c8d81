"""Ctas: publish the final tables by promoting the files, which already are buckets; no data moves."""

from __future__ import annotations

from bucketwheel.contracts import Services
from bucketwheel.manifest import Manifest, PublishResult
from bucketwheel.publish import check_files, definitions, publish_all
from bucketwheel.runs import RunStore


class Ctas:
    """Points `bucketed_<table>` at the files of this run and notes the snapshot date for other jobs."""

    name = "ctas"
    requires = ("discover", "split", "size", "bucket", "verify")

    def run(self, manifest: Manifest, services: Services) -> PublishResult:
        """See `contracts.Stage.run`.

        Raises:
            VerificationError: files of the run are gone.
            CatalogError: see `publish.publish_all`.
        """
        catalog, target = services.settings.catalog, services.settings.target
        check_files(manifest, services.storage, target)
        tables = definitions(manifest, services.storage, target, catalog.final_prefix)
        store = RunStore(services.storage, target)
        return publish_all(
            services.catalog(), services.fence, tables, catalog.adopt, lambda: store.note_published(manifest)
        )
