"""Columns whose type only readers of the Parquet schema get right, as unsigned 64-bit integers."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel import plugins
from bucketwheel.errors import SchemaError
from memory_catalog import MemoryCatalog
from runs_support import DATABASE, DATASET, JANUARY, Case

LARGEST = 2**64 - 1


@pytest.fixture
def large(case: Case, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A case with a value beyond the range of Hive's bigint."""
    monkeypatch.setitem(plugins._BUILT_IN["catalogs"], "memory", "memory_catalog:MemoryCatalog")
    real = plugins.catalog
    monkeypatch.setattr(plugins, "catalog", lambda s: MemoryCatalog() if s.catalog.kind == "memory" else real(s))
    for path in (case.mapping.parent / f"snapshot_dt={JANUARY}").iterdir():
        read = pq.read_table(path)
        values = pa.array([LARGEST] * read.num_rows, pa.uint64())
        pq.write_table(read.set_column(1, read.column_names[1], values), path)
    return case


def test_duckdb_reads_uint64_values_unchanged(large: Case) -> None:
    large.run()
    with duckdb.connect(str(large.catalog), read_only=True) as connection:
        rows = connection.execute(f"SELECT DISTINCT people_1_value FROM {DATABASE}.bucketed_people_1").fetchall()
    assert rows == [(LARGEST,)]


def test_uint64_for_other_catalog_is_refused_before_bucketing(large: Case) -> None:
    with pytest.raises(SchemaError, match=r"column 'people_1_value' has type uint64.*int64 or decimal\(20,0\)"):
        large.run(catalog__kind="memory")
    assert large.manifests() == []
    assert not (large.target / DATASET / "people_1").exists()


def test_uint64_run_for_duckdb_is_not_published_elsewhere(large: Case) -> None:
    large.run(["discover", "split", "size", "bucket", "verify"])
    with pytest.raises(SchemaError, match="column 'people_1_value' has type uint64"):
        large.run(["register"], catalog__kind="memory")
