"""Verification of copied files, independent of what the engine reports."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from copies_support import Copying, failed

from bucketwheel.contracts import Statement
from bucketwheel.errors import ExecutorError
from fake_executor import FakeExecutor


def check_nothing_is_published(copying: Copying) -> None:
    assert copying.final() == {}
    assert copying.leftovers() == []
    assert [len(copying.directories(name)) for name in copying.names()] == [1, 1]
    assert "verify" in copying.manifests()[-1].stages


@pytest.mark.parametrize(
    ("file_name", "text"),
    [
        # Every file gets the name of the next bucket.
        (
            lambda name: f"{(int(name[:6]) + 1) % 4:06d}_0_other",
            r"00000\d_0_other: bucket \d: row 0 belongs to bucket \d by its key \(\d+ such rows?\)",
        ),
        (lambda name: f"{name[:6]}4_0", r"000000?4_0: readers find bucket 4 in this name, but the bucket count is 4"),
        # Readers match these by order, which differs from the order of buckets.
        (lambda name: f"part-{9 - int(name[:6])}.parquet", r"part-\d.parquet: bucket \d: row 0 belongs to"),
    ],
)
def test_misplaced_rows_are_detected_before_publishing(
    copying: Copying, file_name: Callable[[str], str], text: str
) -> None:
    copying.engine.file_name = file_name
    error = failed(copying, ExecutorError, ctas__concurrency=1)
    assert type(error) is ExecutorError
    assert str(error).startswith("copy of ext_people_1: ")
    assert "nothing was published" in str(error)
    assert "set ctas.method=promote" in str(error)
    with pytest.raises(ExecutorError, match=text):
        raise error
    check_nothing_is_published(copying)


def test_names_without_bucket_are_matched_by_order(copying: Copying) -> None:
    copying.engine.file_name = lambda name: f"part-{name[:6]}.parquet"
    copying.run()
    assert len(copying.final()) == 2


def test_copies_use_configured_bucket_hash(copying: Copying) -> None:
    copying.run(buckets__hash="hive_v2")
    assert len(copying.final()) == 2
    assert {"bucketing_version = 2" in text for text in copying.copied()} == {True}


def test_copied_rows_are_counted_independently_of_engine(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    real_keys = FakeExecutor.keys

    def as_the_source(self: FakeExecutor, table: str, columns: list[str], stop: threading.Event) -> Statement:
        return real_keys(self, "ext_people_1" if table.startswith("tmp_") else table, columns, stop)

    monkeypatch.setattr(FakeExecutor, "keys", as_the_source)
    copying.engine.lose_rows = True
    error = failed(copying, ExecutorError)
    with pytest.raises(
        ExecutorError, match=r"hold \d+ rows with key checksum [0-9a-f]{16}, but the run has 300 rows"
    ):
        raise error
    check_nothing_is_published(copying)


def test_copied_rows_are_counted_without_buckets(copying: Copying, monkeypatch: pytest.MonkeyPatch) -> None:
    copying.run(buckets__count="none")
    assert len(copying.final()) == 2
    monkeypatch.setattr(FakeExecutor, "keys", lambda *_: Statement("q", (("300", "x"),), 0, 0))
    copying.engine.file_name = lambda name: "_hidden"
    assert "hold 0 rows" in str(failed(copying, ExecutorError, buckets__count="none", size__max_files=1))
