"""Statistics of columns for moto's Glue, which lacks their calls.

They are kept with the table and refused as Glue's API describes it: more than 25 columns a call, columns that the
table does not have, and data that does not fit its type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from moto.glue.exceptions import InvalidInputException
from moto.glue.models import FakeTable
from moto.glue.responses import GlueResponse

MOST_WRITTEN = 25
MOST_READ = 100
_TYPES = {
    "boolean": "BOOLEAN",
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint", "timestamp"), "LONG"),
    **dict.fromkeys(("float", "double"), "DOUBLE"),
    "decimal": "DECIMAL",
    "date": "DATE",
    "string": "STRING",
    "binary": "BINARY",
}


def _request(response: GlueResponse) -> dict[str, Any]:
    # As it was sent: the parsed parameters have times and bytes in place of JSON's types.
    request: dict[str, Any] = json.loads(response.body)
    return request


def _table(response: GlueResponse, request: dict[str, Any]) -> FakeTable:
    return response.glue_backend.get_table(request["DatabaseName"], request["TableName"].lower())


def _kept(table: FakeTable) -> dict[str, Any]:
    kept: dict[str, Any] = vars(table).setdefault("column_statistics", {})
    return kept


def _columns(table: FakeTable) -> dict[str, str]:
    return {column["Name"]: column["Type"] for column in table.as_dict()["StorageDescriptor"]["Columns"]}


def _error(code: str, text: str) -> dict[str, Any]:
    return {"ErrorCode": code, "ErrorMessage": text}


def _problem(entry: dict[str, Any], columns: dict[str, str]) -> str | None:
    name, data = entry["ColumnName"], entry["StatisticsData"]
    if name not in columns:
        return f"no column {name}"
    kind = _TYPES.get(columns[name].partition("(")[0])
    members = sorted(data.keys() - {"Type"})
    if kind is None or data["Type"] != kind or members != [f"{kind.title()}ColumnStatisticsData"]:
        return f"{data} does not fit {columns[name]}"
    return None


def update(self: GlueResponse) -> str:
    request = _request(self)
    entries = request["ColumnStatisticsList"]
    if len(entries) > MOST_WRITTEN:
        raise InvalidInputException("UpdateColumnStatisticsForTable", f"{len(entries)} columns")
    table = _table(self, request)
    columns, errors = _columns(table), []
    for entry in entries:
        problem = _problem(entry, columns)
        if problem:
            errors.append({"ColumnStatistics": entry, "Error": _error("InvalidInputException", problem)})
        else:
            _kept(table)[entry["ColumnName"]] = entry
    return json.dumps({"Errors": errors})


def get(self: GlueResponse) -> str:
    request = _request(self)
    names = request["ColumnNames"]
    if len(names) > MOST_READ:
        raise InvalidInputException("GetColumnStatisticsForTable", f"{len(names)} columns")
    kept = _kept(_table(self, request))
    errors = [
        {"ColumnName": name, "Error": _error("EntityNotFoundException", "no statistics")}
        for name in names
        if name not in kept
    ]
    return json.dumps({"ColumnStatisticsList": [kept[name] for name in names if name in kept], "Errors": errors})


def delete(self: GlueResponse) -> str:
    request = _request(self)
    # Trino deletes those of every column, and would take an error for a missing table.
    _kept(_table(self, request)).pop(request["ColumnName"], None)
    return "{}"


def _no_entries(_: GlueResponse) -> str:
    return json.dumps({"ColumnStatisticsList": [], "Errors": []})


@contextmanager
def glue_statistics() -> Iterator[None]:
    """Add the calls to moto's Glue; partitions have no statistics."""
    calls: dict[str, Any] = {
        "update_column_statistics_for_table": update,
        "get_column_statistics_for_table": get,
        "delete_column_statistics_for_table": delete,
        "update_column_statistics_for_partition": _no_entries,
        "get_column_statistics_for_partition": _no_entries,
        "delete_column_statistics_for_partition": _no_entries,
    }
    with mock.patch.multiple(GlueResponse, create=True, **calls):
        yield
