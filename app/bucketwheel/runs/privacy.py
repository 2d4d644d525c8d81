"""Hide keys, which identify people, in run metadata, reports and catalogs: `privacy.show_keys`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from bucketwheel.runs.column_statistics import ColumnStatistics
from bucketwheel.runs.manifest import Manifest


def without_keys(columns: Sequence[ColumnStatistics], keys: Collection[str]) -> tuple[ColumnStatistics, ...]:
    """Return the statistics with the smallest and largest values of the key columns hidden.

    Whole numbers are rounded outward to powers of two, because query engines need a range to use the number of
    distinct keys; other values are left out. Hiding them twice changes nothing.
    """
    return tuple(column if column.name not in keys else _hidden(column) for column in columns)


def _hidden(column: ColumnStatistics) -> ColumnStatistics:
    limits: tuple[str | None, str | None] = (None, None)
    try:
        low, high = int(column.smallest or ""), int(column.largest or "")
    except ValueError:
        pass
    else:
        limits = (str(_rounded(low)[0]), str(_rounded(high)[1]))
    return column.model_copy(update={"smallest": limits[0], "largest": limits[1]})


def _rounded(number: int) -> tuple[int, int]:
    """Return the range of the numbers with the sign and the number of bits of this one, from or to zero."""
    if number >= 0:
        return 0, 2 ** number.bit_length() - 1
    return -(2 ** (~number).bit_length()), -1


def manifest_document(manifest: Manifest, show_keys: bool) -> dict[str, Any]:
    """Return a manifest as JSON; without `show_keys`, it has no keys, even if an earlier version recorded them."""
    document = manifest.model_dump(mode="json")
    written = document["stages"].get("bucket", {}).get("result", {})
    if show_keys or not written:
        return document
    for outcome in written.get("outcomes", ()):
        outcome.update(smallest_key=None, largest_key=None)
    if "discover" in manifest.stages:
        given = [ColumnStatistics.model_validate(column) for column in written.get("column_statistics", ())]
        hidden = without_keys(given, manifest.discover.keys)
        written["column_statistics"] = [column.model_dump(mode="json") for column in hidden]
    return document
