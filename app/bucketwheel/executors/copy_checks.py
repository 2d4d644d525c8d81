"""What a copy has to be before it counts; the engine that made it is asked, and is not believed."""

from __future__ import annotations

from collections.abc import Callable

from bucketwheel.contracts import CatalogTable, Services, Statement, TableCopy
from bucketwheel.errors import ExecutorError, VerificationError
from bucketwheel.kernel.verify_copy import ExpectedKeys, verify_copy
from bucketwheel.runs.manifest import Manifest
from bucketwheel.storage.locations import is_below

_VERSION = "bucketing_version"


class CopyChecks:
    """The checks of the copies of one run; all raise ExecutorError where a copy is not what it should be."""

    def __init__(self, manifest: Manifest, services: Services) -> None:
        size = manifest.size
        schema = manifest.discover.schema()
        keys = manifest.split.keys
        self._services = services
        self._rows = manifest.discover.rows
        self._checksum = manifest.verify.key_checksum
        self._keys = ExpectedKeys(
            types={key.name: schema.field(key.source).type for key in keys},
            bucket_count=size.bucket_count if size.bucketed else 0,
            hash=size.hash,
        )

    def definition(self, copy: TableCopy) -> CatalogTable:
        """Return the temporary table as the catalog has it, if it is what was asked for."""
        made, source = self._services.catalog().get(copy.name), copy.source
        if made is None:
            raise ExecutorError(
                f"{copy.name}: the engine made it and the catalog does not show it; the two must share one catalog, "
                "look at athena.catalog or trino.catalog"
            )
        for thing, found, wanted in (
            ("columns", made.columns, source.columns),
            ("bucket columns", made.bucket_columns, source.bucket_columns),
            ("buckets", made.bucket_count, source.bucket_count),
            # Readers take the first version where none is named.
            (_VERSION, made.parameters.get(_VERSION, "1"), source.parameters.get(_VERSION, "1")),
            ("location", made.location, copy.location or made.location),
        ):
            if found != wanted:
                raise ExecutorError(f"{copy.name}: the engine made {thing} {found}, asked for were {wanted}")
        if not is_below(made.location, self._services.storage.absolute(self._services.settings.target)):
            raise ExecutorError(f"{copy.name}: the engine put it at {made.location}, outside of the target")
        return made

    def keys(self, source: str, found: Statement, expected: Statement) -> None:
        """Compare what the engine says of the keys of a copy with what it says of those of its source."""
        if found.rows != expected.rows or found.rows[0][0] != str(self._rows):
            raise ExecutorError(
                f"copy of {source}: rows and key checksums are {found.rows}, those of its source {expected.rows}, "
                f"and the run has {self._rows} rows; nothing was published"
            )

    def buckets(self, copy: TableCopy, location: str, go_on: Callable[[], None]) -> None:
        """Read the keys of a copy back: the run's, each in the bucket that readers take its file for."""
        try:
            rows, checksum = verify_copy(self._services.storage, location, self._keys, go_on)
        except VerificationError as error:
            # The files of the run are as they should be: another try of the copy may be, too.
            raise ExecutorError(
                f"copy of {copy.source.name}: {error}; nothing was published. The engine may hash otherwise than "
                "its documentation says: set ctas.method=promote, which moves no data"
            ) from error
        if (rows, checksum) != (self._rows, self._checksum):
            raise ExecutorError(
                f"copy of {copy.source.name}: its files at {location} hold {rows} rows with the key checksum "
                f"{checksum:016x}, the run has {self._rows} rows with {self._checksum:016x}; nothing was published"
            )
