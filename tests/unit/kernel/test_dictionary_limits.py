"""Dictionaries that outgrow their share of memory: rows travel as values, and files are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bucketwheel.contracts import BucketJob
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.kernel import dictionaries as module
from bucketwheel.kernel.dictionaries import UnifiedDictionaries, is_coded
from bucketwheel.settings import Settings
from bucketwheel.testing.engine_jobs import bucket, with_target
from bucketwheel.testing.jobs import (
    WHOLE,
    MemoryBlocks,
    digests,
    files_of,
    make_job,
    numbered,
    read_buckets,
    run_kernel,
    write_files,
)
from kernel_jobs import people

Values = Sequence[str | None]


def coded(values: Values) -> pa.DictionaryArray:
    return pa.array(values, pa.string()).dictionary_encode()


def tokens(rows: int, first: int = 0) -> list[str | None]:
    """Return texts of 32 characters, every 50th of them NULL."""
    return [None if row % 50 == 49 else f"{row:032d}" for row in range(first, first + rows)]


@pytest.fixture
def job(tmp_path: Path) -> BucketJob:
    """A job with a column of few values, one of different values, and one that has NULLs only."""
    columns = [
        {
            "Code": pa.array([f"C{row % 7}" for row in range(600)]),
            "Token": pa.array(tokens(600, 600 * number)),
            "Nothing": pa.nulls(600, pa.string()),
        }
        for number in range(3)
    ]
    tables = [people(numbered(600, 600 * number), **part) for number, part in enumerate(columns)]
    files = write_files(tmp_path / "source", tables, 200)
    names = ["Code", "Token", "Nothing"]
    return make_job(tmp_path / "out", files, {"t": names}, dictionary_columns=frozenset(names), bucket_count=3)


def scan(job: BucketJob, limit: int | None, max_rows: int = WHOLE) -> MemoryBlocks:
    blocks = MemoryBlocks()
    blocks.dictionaries = UnifiedDictionaries(limit)
    return blocks.scan(job, max_rows)


def test_column_beyond_its_share_closes_and_others_stay_open() -> None:
    dictionaries = UnifiedDictionaries(40_000)
    assert dictionaries.encode("Code", coded(["a", None, "b"])).to_pylist() == [1, 0, 2]  # type: ignore[union-attr]
    last = 0
    while dictionaries.encode("Token", coded(tokens(100, last))) is not None:
        last += 100
    # A share of 10,000 bytes holds 277 texts of 32 bytes and their offsets.
    assert 200 <= last <= 400
    assert dictionaries.column("Token").bytes < 20_000
    assert (dictionaries.is_closed("Token"), dictionaries.is_closed("Code")) == (True, False)
    assert dictionaries.encode("Code", coded(["b"])).to_pylist() == [2]  # type: ignore[union-attr]


def test_columns_stop_growing_when_all_together_reach_the_limit() -> None:
    dictionaries = UnifiedDictionaries(20_000)
    names = [f"C{number}" for number in range(40)]
    totals = []
    for first in range(0, 100, 5):
        for name in names:
            dictionaries.encode(name, coded(tokens(5, first)))
        totals.append(sum(dictionaries.column(name).bytes for name in names))
    assert totals[0] < 10_000
    # Each column adds the values of one part at most after the limit is reached.
    assert 20_000 < totals[-1] < 35_000
    assert all(dictionaries.is_closed(name) for name in names)


def test_dictionary_larger_than_the_share_is_never_added() -> None:
    dictionaries = UnifiedDictionaries(4000)
    assert dictionaries.encode("Token", coded(tokens(1000))) is None
    assert "Token" in dictionaries
    values = dictionaries.column("Token").values
    assert (len(values), values.type) == (0, pa.string())


def test_large_dictionary_of_mostly_different_values_is_never_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE_DICTIONARY", 1000)
    dictionaries = UnifiedDictionaries(10**9)
    assert dictionaries.encode("Token", coded(tokens(1000))) is None
    repeated = dictionaries.encode("Code", coded([*tokens(100)] * 3))
    assert repeated is not None
    assert is_coded(repeated.type)


@pytest.mark.parametrize("limit", [0, 4000, 30_000])
@pytest.mark.parametrize("max_rows", [WHOLE, 70])
def test_files_do_not_depend_on_the_limit(job: BucketJob, limit: int, max_rows: int) -> None:
    run_kernel(job)
    limited = with_target(job, "limited")
    blocks = scan(limited, limit, max_rows)
    kinds = {is_coded(part.batch.schema.field("Token").type) for part in blocks.parts}
    # With 30,000 bytes, the first parts have codes and the others values.
    assert kinds == ({True, False} if limit == 30_000 else {False})
    for number in range(limited.buckets):
        blocks.gather(limited, number)
    assert digests(limited) == digests(job)
    grouped = with_target(job, "grouped")
    scan(grouped, limit, max_rows).gather_group(grouped, range(grouped.buckets))
    assert digests(grouped) == digests(job)


@pytest.mark.parametrize("memory", [1, 400_000, 2**30])
def test_engine_writes_the_same_files_for_any_budget(job: BucketJob, memory: int) -> None:
    run_kernel(job)
    other = with_target(job, "other")
    bucket(ArrowEngine(Settings(memory=memory, threads=2)), other)
    assert digests(other) == digests(job)


def test_dictionary_that_saves_nothing_is_not_written(job: BucketJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE_DICTIONARY", 5000)
    expected = dict(enumerate(with_rows(job)))
    for limit in (None, 4000):
        limited = with_target(job, f"limit-{limit}")
        blocks = scan(limited, limit)
        for number in range(limited.buckets):
            blocks.gather(limited, number)
        path = files_of(limited, "t")[0]
        group = pq.read_metadata(path).row_group(0)
        chunks = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
        assert {name: chunk.has_dictionary_page for name, chunk in chunks.items() if name != "nothing"} == {
            "customer_user_id": False,
            "code": True,
            "token": False,
        }
        assert dict(enumerate(with_rows(limited, run=False))) == expected


@pytest.mark.parametrize("limit", [3000, 3600, 4000])
def test_wide_offsets_change_no_dictionary(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(module, "_LARGE_DICTIONARY", limit)
    values = pa.array([f"{row * 37 % 100:032d}" for row in range(100)])
    dictionary = UnifiedDictionaries().column("x")
    codes = dictionary.encode(values.dictionary_encode())
    wide = dictionary.encode_parts(values.cast(pa.large_string()), [0, 100]).chunk(0)
    assert module.saves_nothing(wide) == (limit < 3600)
    assert limit < 3600 or wide.equals(dictionary.decode(codes.to_numpy(), [0, 100]).chunk(0))


def with_rows(job: BucketJob, *, run: bool = True) -> list[pa.Table]:
    if run:
        run_kernel(job)
    return list(read_buckets(job, "t").values())
