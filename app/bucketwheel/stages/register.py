"""Register: publish the staged tables."""

from __future__ import annotations

from bucketwheel.contracts import Services
from bucketwheel.manifest import Manifest, PublishResult
from bucketwheel.publish import definitions, publish_all


class Register:
    """Points `ext_<table>` at the files of this run."""

    name = "register"
    requires = ("discover", "split", "size", "bucket", "verify")

    def run(self, manifest: Manifest, services: Services) -> PublishResult:
        """See `contracts.Stage.run`."""
        catalog = services.settings.catalog
        tables = definitions(manifest, services.storage, services.settings.target, catalog.staged_prefix)
        return publish_all(services.catalog(), services.fence, tables, catalog.adopt)
