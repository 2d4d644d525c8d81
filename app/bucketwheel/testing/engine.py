"""The test suite that every engine passes.

A test class inherits `EngineContract` and defines the fixture `make_engine`, a function that takes settings as
keyword arguments and returns an engine with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pytest

from bucketwheel.contracts import BucketJob, Engine, ReadKeys
from bucketwheel.errors import StorageError, UnreadableFilesError, VerificationError
from bucketwheel.kernel.checksum import add
from bucketwheel.runs.manifest import BucketOutcome
from bucketwheel.testing.engine_jobs import (
    BUCKETS,
    CODED,
    COLUMNS,
    ROWS,
    Counts,
    bucket,
    ignore,
    narrow_source,
    source,
    with_layout,
    with_target,
    write_source,
)
from bucketwheel.testing.jobs import (
    KEY,
    digests,
    files_of,
    leftovers,
    make_job,
    make_slices,
    read_buckets,
    rows_of,
    run_kernel,
    write_files,
)

MakeEngine = Callable[..., Engine]


class EngineContract:
    """Tests of the rules in `bucketwheel.contracts.Engine`."""

    # Whether a cancelled run is killed: shortly afterwards, and perhaps while it writes a file.
    kills = False

    @pytest.fixture
    def job(self, tmp_path: Path) -> BucketJob:
        """Return a job with NULL keys, duplicate keys, several files and several row-group sizes."""
        files = write_source(tmp_path / "source")
        job = make_job(tmp_path / "out", files, COLUMNS, row_group_rows=100, max_file_bytes=9000)
        return replace(job, bucket_count=BUCKETS, dictionary_columns=CODED)

    @pytest.fixture
    def expected(self, job: BucketJob) -> tuple[list[BucketOutcome], dict[str, str]]:
        """Return the outcomes and file digests that the kernel produces for the job without an engine."""
        plain = with_target(job, "expected")
        return run_kernel(plain), digests(plain)

    def test_every_row_is_in_one_bucket(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """Every row is in one bucket, and every bucket has an outcome."""
        outcomes = bucket(make_engine(), job)
        assert [outcome.bucket for outcome in outcomes] == list(range(BUCKETS))
        assert sum(outcome.rows for outcome in outcomes) == ROWS
        assert sum(outcome.null_keys for outcome in outcomes) == source()[KEY].null_count
        written = [row for table in read_buckets(job, "codes").values() for row in rows_of(table)]
        assert sorted(written, key=str) == sorted(rows_of(source().select([KEY, *COLUMNS["codes"]])), key=str)

    @pytest.mark.parametrize("threads", [1, 4])
    @pytest.mark.parametrize("memory", [1, 400_000, 2**30])
    def test_files_are_identical_for_any_threads_and_memory(
        self,
        make_engine: MakeEngine,
        job: BucketJob,
        expected: tuple[list[BucketOutcome], dict[str, str]],
        threads: int,
        memory: int,
    ) -> None:
        """Files are byte-identical for any number of threads and any amount of memory."""
        outcomes = bucket(make_engine(threads=threads, memory=memory), job)
        assert (outcomes, digests(job)) == expected
        assert len(files_of(job, "texts")) > BUCKETS

    @pytest.mark.parametrize("groups", [2, 100])
    def test_files_are_identical_for_any_slicing(
        self,
        make_engine: MakeEngine,
        job: BucketJob,
        expected: tuple[list[BucketOutcome], dict[str, str]],
        groups: int,
    ) -> None:
        """Files are byte-identical for any slicing of the source."""
        paths = list(dict.fromkeys(Path(part.path) for part in job.slices))
        outcomes = bucket(make_engine(), replace(job, slices=make_slices(paths, groups)))
        assert (outcomes, digests(job)) == expected

    @pytest.mark.parametrize("done", [(), (0, 3, 4)])
    def test_column_statistics_cover_all_rows_or_are_missing(
        self, make_engine: MakeEngine, job: BucketJob, done: tuple[int, ...]
    ) -> None:
        """Statistics describe every row of the source, also if some buckets are finished; an engine may have none."""
        engine = make_engine()
        bucket(engine, replace(job, column_statistics="distinct"), done)
        columns = {column.name: column for column in engine.statistics().columns}
        if not columns:
            return
        rows = source()
        assert sorted(columns) == sorted({KEY, *COLUMNS["codes"], *COLUMNS["texts"]} - {"Tags"})
        for name, column in columns.items():
            values = [value for value in rows[name].to_pylist() if value is not None]
            assert column.nulls == rows[name].null_count
            if name != KEY:
                assert column.distinct == pytest.approx(len(set(values)), rel=0 if column.distinct_exact else 0.2)
            if name == "Number":
                assert (column.smallest, column.largest) == (str(min(values)), str(max(values)))
            else:
                assert (column.longest, column.bytes) == (max(map(len, values)), sum(map(len, values)))
        bucket(engine, with_target(job, "without"))
        assert engine.statistics().columns == ()

    @pytest.mark.parametrize("done", [(), (0, 3, 4)])
    def test_read_keys_are_those_of_all_rows_or_are_missing(
        self,
        make_engine: MakeEngine,
        job: BucketJob,
        expected: tuple[list[BucketOutcome], dict[str, str]],
        done: tuple[int, ...],
    ) -> None:
        """The checksum of the keys that were read is that of all buckets, also if some are finished."""
        engine = make_engine()
        bucket(engine, job, done)
        written = reduce(add, (outcome.key_checksum for outcome in expected[0]))
        rows = sum(outcome.rows for outcome in expected[0])
        assert engine.statistics().keys in (None, ReadKeys(rows, written))

    def test_finished_buckets_are_skipped(
        self, make_engine: MakeEngine, job: BucketJob, expected: tuple[list[BucketOutcome], dict[str, str]]
    ) -> None:
        """The engine skips finished buckets and writes the others unchanged."""
        outcomes = bucket(make_engine(), job, done=[0, 3, 4])
        assert outcomes == [outcome for outcome in expected[0] if outcome.bucket not in (0, 3, 4)]
        names = {f"{file.table}/{file.name}" for outcome in outcomes for file in outcome.files}
        assert digests(job) == {name: digest for name, digest in expected[1].items() if name in names}

    @pytest.mark.parametrize(("memory", "done"), [(1, 0), (2**30, 0), (1, 2), (2**30, BUCKETS + 2)])
    def test_layouts_are_written_as_if_alone(
        self, make_engine: MakeEngine, job: BucketJob, memory: int, done: int
    ) -> None:
        """Each of several layouts has the outcomes and bytes of a job that writes it alone, also if it is resumed."""
        job = with_layout(with_layout(job, "spark", 5, "spark"), "plain", 1, "hive_v2", sort=False)
        assert job.buckets == BUCKETS + 5 + 1
        engine = make_engine(memory=memory, threads=2)
        outcomes = [*bucket(engine, job, range(done, job.buckets)), *bucket(engine, job, range(done))]
        check_layouts(engine, job, outcomes)

    @pytest.mark.parametrize("schemes", [("iceberg", "hive_v2", "spark"), ("hive_v2", "iceberg", "spark")])
    def test_layouts_beside_iceberg_keep_the_types_of_the_source(
        self, make_engine: MakeEngine, tmp_path: Path, schemes: tuple[str, ...]
    ) -> None:
        """Only the files of Iceberg get wider types, and all have the bytes of a job that writes one layout."""
        content = narrow_source(pa.int16())
        files = write_files(tmp_path / "source", [content.slice(0, 130), content.slice(130)])
        columns = [name for name in content.column_names if name != KEY]
        job = make_job(tmp_path / "out", files, {"narrow": columns}, hash=schemes[0])
        for scheme in schemes[1:]:
            job = with_layout(job, scheme, 3, scheme)
        engine = make_engine()
        check_layouts(engine, job, bucket(engine, job))

    def test_layouts_share_progress_and_statistics(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """Rows are read once and written once for each layout; statistics are those of one layout alone."""
        job, engine = replace(job, column_statistics="basic"), make_engine()
        steps: Counts = []
        bucket(engine, with_layout(with_target(job, "both"), "spark", 5, "spark"), advance=steps)
        both = engine.statistics()
        assert sum(rows for rows, _ in steps) == 3 * ROWS
        bucket(engine, job)
        assert (both.columns, both.keys) == (engine.statistics().columns, engine.statistics().keys)

    def test_source_is_not_read_when_all_buckets_are_done(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """The engine does not read the source when all buckets are done."""
        for part in job.slices:
            Path(part.path).unlink(missing_ok=True)
        assert bucket(make_engine(), job, done=range(BUCKETS)) == []

    def test_running_a_job_twice_writes_identical_files(
        self, make_engine: MakeEngine, job: BucketJob, expected: tuple[list[BucketOutcome], dict[str, str]]
    ) -> None:
        """Running a job twice writes identical files."""
        engine = make_engine()
        assert bucket(engine, job) == bucket(engine, job) == expected[0]
        assert digests(job) == expected[1]

    def test_empty_bucket_has_an_outcome_and_no_file(self, make_engine: MakeEngine, tmp_path: Path) -> None:
        """An empty bucket has an outcome and no file."""
        files = write_files(tmp_path / "source", [pa.table({KEY: pa.array([4, 8], pa.int32())})])
        job = make_job(tmp_path / "out", files, {"keys": []})
        outcomes = bucket(make_engine(), job)
        assert [(outcome.rows, len(outcome.files)) for outcome in outcomes] == [(2, 1), (0, 0), (0, 0), (0, 0)]

    def test_empty_source_has_outcomes_and_no_files(self, make_engine: MakeEngine, tmp_path: Path) -> None:
        """An empty source has outcomes and no files."""
        files = write_files(tmp_path / "source", [source().slice(0, 0)])
        job = make_job(tmp_path / "out", files, COLUMNS, dictionary_columns=CODED)
        assert [outcome.rows for outcome in bucket(make_engine(), job)] == [0, 0, 0, 0]
        assert digests(job) == {}

    def test_progress_counts_rows_read_and_written(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """Progress counts each row once when it is read and once when it is written."""
        steps: Counts = []
        outcomes = bucket(make_engine(), job, advance=steps)
        assert sum(rows for rows, _ in steps) == 2 * ROWS
        assert sum(size for _, size in steps) == sum(file.bytes for o in outcomes for file in o.files)
        assert all(rows >= 0 and size >= 0 for rows, size in steps)

    def test_progress_is_reported_during_the_run(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """Progress is reported during the run, not only at its end."""
        steps: Counts = []
        seen = [len(steps) for _ in make_engine(threads=1).bucket(job, (), lambda *step: steps.append(step))]
        assert len(seen) == BUCKETS
        assert seen[0] < seen[-1]

    def test_files_exist_when_their_bucket_is_reported(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """The files of a bucket exist when its outcome is reported."""
        directories = {table.name: Path(table.directory) for table in job.tables}
        seen = 0
        for outcome in make_engine().bucket(job, (), ignore):
            seen += len(outcome.files)
            for file in outcome.files:
                assert (directories[file.table] / file.name).stat().st_size == file.bytes
        assert seen >= BUCKETS

    def test_only_reported_files_remain(self, make_engine: MakeEngine, job: BucketJob, tmp_path: Path) -> None:
        """Only reported files remain after a run."""
        outcomes = bucket(make_engine(memory=1), job)
        named = {f"{file.table}/{file.name}" for outcome in outcomes for file in outcome.files}
        names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
        assert names == named

    @pytest.mark.parametrize("memory", [1, 2**30])
    def test_unreadable_page_stops_the_run(self, make_engine: MakeEngine, job: BucketJob, memory: int) -> None:
        """An unreadable page stops the run; the error names the file and the column."""
        path = Path(job.slices[-1].path)
        content = path.read_bytes()
        path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
        with pytest.raises(UnreadableFilesError, match=rf"{path}: row group \d+, column"):
            bucket(make_engine(memory=memory), job)
        assert digests(job) == {}
        assert leftovers(job) == []

    def test_unwritable_directory_stops_the_run(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """An unwritable directory stops the run; the error names it."""
        blocked = Path(job.tables[1].directory)
        blocked.parent.mkdir(parents=True, exist_ok=True)
        blocked.write_text("in the way", encoding="utf-8")
        with pytest.raises(StorageError, match=str(blocked)):
            bucket(make_engine(), job)
        assert self.kills or leftovers(job) == []

    def test_error_in_progress_callback_stops_the_run(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """An error in the progress callback stops the run."""

        def advance(_rows: int, _size: int) -> None:
            raise RuntimeError("the lease is lost")

        with pytest.raises(RuntimeError, match="the lease is lost"):
            list(make_engine(threads=1).bucket(job, (), advance))
        assert self.kills or leftovers(job) == []

    @pytest.mark.parametrize("memory", [1, 2**30])
    def test_files_are_complete_after_cancellation(
        self,
        make_engine: MakeEngine,
        job: BucketJob,
        expected: tuple[list[BucketOutcome], dict[str, str]],
        memory: int,
    ) -> None:
        """Files that exist after cancellation are complete."""
        outcomes = make_engine(threads=2, memory=memory).bucket(job, (), ignore)
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        hashes = digests(job)
        assert hashes.items() <= expected[1].items()
        later = digests(job)
        assert hashes.items() <= later.items() <= expected[1].items()
        assert self.kills or (leftovers(job) == [] and later == hashes)

    def test_verify_accepts_and_counts_the_files(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """Verification accepts the files and counts their rows and bytes."""
        engine = make_engine()
        outcomes = bucket(engine, job)
        steps: Counts = []
        checks = sorted(engine.verify(job, outcomes, lambda *step: steps.append(step)), key=lambda c: c.bucket)
        assert [(c.bucket, c.rows, c.key_checksum) for c in checks] == [
            (o.bucket, o.rows, o.key_checksum) for o in outcomes if o.rows
        ]
        sizes = [{t.name: sum(f.bytes for f in o.files if f.table == t.name) for t in job.tables} for o in outcomes]
        assert [dict(check.table_bytes) for check in checks] == sizes
        assert tuple(map(sum, zip(*steps, strict=True))) == (ROWS, sum(sum(size.values()) for size in sizes))

    def test_verify_skips_empty_buckets(self, make_engine: MakeEngine, tmp_path: Path) -> None:
        """Verification skips empty buckets."""
        files = write_files(tmp_path / "source", [pa.table({KEY: pa.array([4, 8], pa.int32())})])
        job = make_job(tmp_path / "out", files, {"keys": []})
        engine = make_engine()
        assert [check.bucket for check in engine.verify(job, bucket(engine, job), ignore)] == [0]

    def test_verify_rejects_a_changed_file(self, make_engine: MakeEngine, job: BucketJob) -> None:
        """Verification rejects a changed file."""
        engine = make_engine()
        outcomes = bucket(engine, job)
        victim = files_of(job, "texts")[2]
        victim.write_bytes(victim.read_bytes()[:-9])
        with pytest.raises(VerificationError, match=str(victim)):
            list(engine.verify(job, outcomes, ignore))


def check_layouts(engine: Engine, job: BucketJob, outcomes: list[BucketOutcome]) -> None:
    """Check that each layout has the outcomes and bytes of a job that writes it alone, and passes `verify`."""
    assert [job.number_of(outcome) for outcome in outcomes] == list(range(job.buckets))
    for layout in job.layouts:
        alone = with_target(layout, f"alone-{layout.layout}")
        assert [outcome for outcome in outcomes if outcome.layout == layout.layout] == run_kernel(alone)
        assert digests(layout) == digests(alone)
    checks = engine.verify(job, outcomes, ignore)
    assert sorted((check.layout, check.bucket, check.rows) for check in checks) == sorted(
        (outcome.layout, outcome.bucket, outcome.rows) for outcome in outcomes if outcome.rows
    )
