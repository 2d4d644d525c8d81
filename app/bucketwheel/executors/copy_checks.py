"""Verify a copy independently of the engine that wrote it."""

from __future__ import annotations

from collections.abc import Callable

from bucketwheel.contracts import CatalogTable, Services, Statement, TableCopy
from bucketwheel.errors import ExecutorError, VerificationError
from bucketwheel.formatting import counted
from bucketwheel.kernel.verify_copy import ExpectedKeys, verify_copy
from bucketwheel.runs.manifest import Manifest
from bucketwheel.storage.locations import is_below

_VERSION = "bucketing_version"


class CopyChecks:
    """The checks of the copies of one run; each raises ExecutorError if the copy differs from its source."""

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
        """Return the temporary table from the catalog if it has the requested definition."""
        table, source = self._services.catalog().get(copy.name), copy.source
        if table is None:
            raise ExecutorError(
                f"{copy.name}: the engine created it, but the catalog does not list it; both must use the same "
                "catalog, check athena.catalog or trino.catalog"
            )
        for thing, actual, expected in (
            ("columns", table.columns, source.columns),
            ("bucket columns", table.bucket_columns, source.bucket_columns),
            ("buckets", table.bucket_count, source.bucket_count),
            # Readers assume version 1 if none is given.
            (_VERSION, table.parameters.get(_VERSION, "1"), source.parameters.get(_VERSION, "1")),
            ("location", table.location, copy.location or table.location),
        ):
            if actual != expected:
                raise ExecutorError(f"{copy.name}: the engine created {thing} {actual}, requested {expected}")
        if not is_below(table.location, self._services.storage.absolute(self._services.settings.target)):
            raise ExecutorError(f"{copy.name}: the engine wrote it to {table.location}, outside the target")
        return table

    def keys(self, source: str, actual: Statement, expected: Statement) -> None:
        """Compare the engine's row count and key checksums of a copy with those of its source."""
        if actual.rows != expected.rows or actual.rows[0][0] != str(self._rows):
            raise ExecutorError(
                f"copy of {source}: it has rows and key checksums {actual.rows}, its source has {expected.rows}, and "
                f"the run has {counted(self._rows, 'row')}; nothing was published"
            )

    def buckets(self, copy: TableCopy, location: str, check_stop: Callable[[], None]) -> None:
        """Check that the files of a copy hold the keys of the run, each in its bucket; `check_stop` may raise."""
        try:
            rows, checksum = verify_copy(self._services.storage, location, self._keys, check_stop)
        except VerificationError as error:
            # The files of the run are correct, so another attempt at the copy may succeed.
            raise ExecutorError(
                f"copy of {copy.source.name}: {error}; nothing was published. The engine may hash "
                "differently from its documentation: set ctas.method=promote, which moves no data"
            ) from error
        if (rows, checksum) != (self._rows, self._checksum):
            raise ExecutorError(
                f"copy of {copy.source.name}: its files at {location} hold {counted(rows, 'row')} with key checksum "
                f"{checksum:016x}, but the run has {counted(self._rows, 'row')} with key checksum "
                f"{self._checksum:016x}; "
                "nothing was published"
            )
