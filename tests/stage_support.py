"""Snapshots as `discover` describes them, made up, and the services that a stage needs to work on them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from bucketwheel.contracts import Services
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.runs.manifest import (
    DiscoverResult,
    Manifest,
    SizeResult,
    SourceColumn,
    SourceFile,
    SplitResult,
    StageRecord,
)
from bucketwheel.runs.record import Record
from bucketwheel.settings import loading
from bucketwheel.stages.size import Size
from bucketwheel.stages.split import Split
from bucketwheel.stages.written_bytes import Estimate

DATASET = "addressable_ids"


class Pair(pa.ExtensionType):  # type: ignore[misc]
    """A type of somebody's own, stored as two columns."""

    def __init__(self) -> None:
        super().__init__(pa.struct([("a", pa.int64()), ("b", pa.string())]), "tests.pair")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage: pa.DataType, _serialized: bytes) -> Pair:
        return cls()


def services(tables: Sequence[str] = (), dataset: str = DATASET, **overrides: Any) -> Services:
    given: dict[str, Any] = {f"datasets.{dataset}": {"source": "in", "key": "Key"}}
    given |= {name.replace("__", "."): value for name, value in overrides.items()}
    settings = loading.load(overrides=[(name, value, "test") for name, value in given.items()]).settings
    return make_services(settings, RunRequest(dataset, tables_filter=tuple(tables)), lambda _: None)


def column(name: str, size: int = 1000, **changes: Any) -> SourceColumn:
    values = {"type": "string", "compressed_bytes": size, "uncompressed_bytes": 2 * size, "dictionary_bytes": None}
    return SourceColumn(name=name, **{**values, **changes})


def discovered(
    columns: Sequence[SourceColumn],
    files: Sequence[Sequence[int]] = ((1000,),),
    types: Mapping[str, pa.DataType] | None = None,
    keys: Sequence[str] = ("Key",),
) -> DiscoverResult:
    """Describe files by the rows of their row groups; columns are strings unless `types` says otherwise."""
    schema = pa.schema([(c.name, (types or {}).get(c.name, pa.string())) for c in columns])
    rows, size = sum(map(sum, files)), sum(c.compressed_bytes for c in columns)
    return DiscoverResult(
        snapshot_dt="2025-10-22",
        location="in/snapshot_dt=2025-10-22",
        rows=rows,
        bytes=size,
        keys=tuple(keys),
        key_types=("string",) * len(keys),
        files=tuple(
            SourceFile(
                path=f"in/{number}.parquet",
                bytes=size * sum(groups) // max(rows, 1),
                modified="",
                row_group_rows=tuple(groups),
            )
            for number, groups in enumerate(files)
        ),
        columns=tuple(columns),
        schema_ipc=base64.b64encode(schema.serialize().to_pybytes()).decode(),
    )


def manifest(**results: Record) -> Manifest:
    stages = {
        name: StageRecord(started="", seconds=0, result=r.model_dump(mode="json")) for name, r in results.items()
    }
    return Manifest(
        run_id="test",
        dataset=DATASET,
        created="",
        planned_stages=(),
        fingerprint={},
        versions={},
        runtime="",
        stages=stages,
    )


def split(snapshot: DiscoverResult, tables: Sequence[str] = (), **overrides: Any) -> SplitResult:
    return Split().run(manifest(discover=snapshot), services(tables, **overrides))


def size(snapshot: DiscoverResult, estimate: Estimate | None = None, **overrides: Any) -> SizeResult:
    """Return the sizes of a snapshot without files; `estimate` stands for the sample of its data."""
    parts = split(snapshot, **overrides)
    stage = Size(lambda job, _snapshot: [estimate or Estimate({})] * len(job.layouts))
    return stage.run(manifest(discover=snapshot, split=parts), services(**overrides))
