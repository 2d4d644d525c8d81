"""Register: publish the staged tables."""

from __future__ import annotations

from bucketwheel.catalogs.publish import publish_run
from bucketwheel.contracts import Services
from bucketwheel.runs.manifest import Manifest, PublishResult


class Register:
    """Points `ext_<table>` to the files of the first layout of this run; there are none if it is Iceberg's."""

    name = "register"
    requires = ("discover", "split", "size", "bucket", "verify")

    def run(self, manifest: Manifest, services: Services) -> PublishResult:
        """See `contracts.Stage.run`.

        Raises:
            VerificationError: files of the run are missing.
            CatalogError: see `publish.publish_all`.
        """
        return publish_run(manifest, services, self.name)
