"""Settings of the types in which columns are written."""

from __future__ import annotations

from typing import Literal

from bucketwheel.settings.base import Frozen


class TypeSettings(Frozen):
    """Values of columns that some reader rejects or misreads, also inside lists, structs and maps.

    Attributes:
        invalid_text: Text that is not UTF-8, for example because it is Latin-1: `error` refuses it, `replace`
            replaces such bytes by U+FFFD, except in keys, `keep` writes them, which DuckDB rejects. To publish such
            columns as binary, set `datasets.NAME.binary_columns`.
    """

    invalid_text: Literal["error", "replace", "keep"] = "error"
