"""Settings of the types in which columns are written."""

from __future__ import annotations

from typing import Literal

from bucketwheel.settings.base import Frozen


class TypeSettings(Frozen):
    """Types of columns that some reader rejects or misreads, also inside lists, structs and maps (`types.md`).

    Attributes:
        timestamps: Timestamps in nanoseconds: `us` writes microseconds and refuses values with further digits,
            `truncate` cuts those digits, `keep` writes nanoseconds, which Spark rejects, `error` refuses the column.
        uuid: UUIDs: `text` writes 36 characters, `binary` 16 bytes, `keep` the UUIDs of Iceberg, which Spark rejects
            in other tables.
        times: Times of day: `text` writes `12:34:56.789`, `keep` writes times, which Spark rejects, `error` refuses
            the column.
        legacy_timestamps: Timestamps before 1900 that Spark wrote in its legacy calendar without naming the time
            zone: `error` refuses them, `utc` converts them as those of a session in UTC.
        invalid_text: Text that is not UTF-8, for example because it is Latin-1: `error` refuses it, `replace`
            replaces such bytes by U+FFFD, `keep` writes them, which DuckDB rejects. Keys are always kept, with a
            warning. To publish such columns as binary, set `datasets.NAME.binary_columns`.
    """

    timestamps: Literal["us", "truncate", "keep", "error"] = "us"
    uuid: Literal["text", "binary", "keep"] = "text"
    times: Literal["text", "keep", "error"] = "text"
    legacy_timestamps: Literal["error", "utc"] = "error"
    invalid_text: Literal["error", "replace", "keep"] = "error"
