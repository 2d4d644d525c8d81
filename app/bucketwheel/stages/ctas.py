"""Ctas: publish the final tables.

The files of the run already are buckets; a SQL engine copies them only if `ctas.method` names one.
"""

from __future__ import annotations

from bucketwheel.catalogs.live_record import record_live
from bucketwheel.catalogs.publish import publish_run
from bucketwheel.contracts import Services
from bucketwheel.executors.copy_tables import copy_tables
from bucketwheel.runs.manifest import CopiedTable, Manifest, PublishResult
from bucketwheel.settings import PROMOTE


class Ctas:
    """Points the final tables of all layouts to the files of this run or to copies, and records their snapshots."""

    name = "ctas"
    requires = ("discover", "split", "size", "bucket", "verify")

    def run(self, manifest: Manifest, services: Services) -> PublishResult:
        """See `contracts.Stage.run`.

        Raises:
            VerificationError: files of the run are missing.
            ExecutorError: see `copy_tables.copy_tables`.
            CatalogError: see `publish.publish_all`.
        """
        settings = services.settings
        copies: tuple[CopiedTable, ...] = ()
        warnings: tuple[str, ...] = ()
        if settings.ctas.method != PROMOTE:
            copies, warnings = copy_tables(manifest, services)
        mixes: list[str] = []

        def record() -> None:
            mixes.append(record_live(manifest, services).mix_text())

        published = publish_run(manifest, services, self.name, record, copies)
        warnings += (*(mix for mix in mixes if mix), *published.warnings)
        return PublishResult(tables=published.tables, method=settings.ctas.method, copies=copies, warnings=warnings)
