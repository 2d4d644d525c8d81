"""Register: publish the staged tables."""

from __future__ import annotations

from bucketwheel.contracts import Services
from bucketwheel.manifest import Manifest, PublishResult
from bucketwheel.publish import check_files, definitions, publish_all


class Register:
    """Points `ext_<table>` at the files of this run."""

    name = "register"
    requires = ("discover", "split", "size", "bucket", "verify")

    def run(self, manifest: Manifest, services: Services) -> PublishResult:
        """See `contracts.Stage.run`.

        Raises:
            VerificationError: files of the run are gone.
            CatalogError: see `publish.publish_all`.
        """
        catalog, target = services.settings.catalog, services.settings.target
        check_files(manifest, services.storage, target)
        tables = definitions(manifest, services.storage, target, catalog.staged_prefix)
        return publish_all(services.catalog(), services.fence, tables, catalog.adopt)
