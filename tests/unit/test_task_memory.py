"""A warning if a Spark task needs more memory than a worker of Glue or EMR Serverless leaves to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest

from bucketwheel.engines.spark_sizing import BATCH_BYTES, PROCESS_BYTES, scatter_memory
from bucketwheel.runs.manifest import ColumnMapping, DiscoverResult, TableColumns
from bucketwheel.settings import EmrServerlessSettings, GlueJobSettings, resolved_layouts
from bucketwheel.stages.scan_requests import SourceScan
from bucketwheel.stages.task_memory import largest_bucket_rows, shortage, task_memory
from stage_support import column, discovered, services, size, split

ROWS = 374_000_000
JOBS: dict[str, Any] = {"engine": "spark", "target": "s3://b/out", "buckets__count": 256}
EMR: dict[str, Any] = {"deploy__platform": "emr-serverless"}


def snapshot(rows: int = ROWS, groups: int = 3000, nulls: int = 0) -> DiscoverResult:
    """A key of 12 characters and 100 columns of 8 bytes."""
    columns = [
        column("Key", 10 * rows, uncompressed_bytes=12 * rows, null_count=nulls),
        *(column(f"c{number}", 3 * rows) for number in range(100)),
    ]
    types = {f"c{number}": pa.float64() for number in range(100)}
    return discovered(columns, [[rows // groups] * groups], types)


def warnings(source: DiscoverResult | None = None, **overrides: Any) -> list[str]:
    texts = size(source or snapshot(), **{**JOBS, **overrides}).warnings
    return [text for text in texts if text.startswith(("gathering table", "reading the largest"))]


def test_production_on_glue_is_warned_with_settings_that_help() -> None:
    (warning,) = warnings()
    assert warning == (
        "gathering table addressable_ids of the largest bucket (1,460,930 rows) takes about 2.6 GB, but a worker of "
        "type G.4X (64 GB) leaves about 1.6 GB to each of its 16 tasks; set buckets.count=512 or set "
        'glue.worker_type=R.4X or set glue.arguments={"--conf": "spark.task.cpus=2"} (8 tasks at a time)'
    )
    assert warnings(buckets__count=512) == []
    assert warnings(glue__worker_type="R.4X") == []
    assert warnings(glue__arguments={"--conf": "spark.task.cpus=2"}) == []


def test_larger_worker_is_advised_only_if_it_is_large_enough() -> None:
    (warning,) = warnings(buckets__count=200)
    assert warning.endswith(
        '; set buckets.count=512 or set glue.arguments={"--conf": "spark.task.cpus=4"} (4 tasks at a time)'
    )
    assert len(warnings(buckets__count=200, glue__worker_type="R.4X")) == 1
    assert warnings(buckets__count=200, glue__arguments={"--conf": "spark.task.cpus=4"}) == []


def test_other_spark_settings_are_kept_in_the_advice() -> None:
    options = "spark.executor.cores=8 --conf spark.task.cpus=2 --conf a.b=c"
    memory = task_memory(services(**JOBS, glue__arguments={"--conf": options}).settings)
    assert memory is not None
    assert memory.tasks == 4
    assert memory.fewer_tasks(memory.bytes * 2) == (
        'set glue.arguments={"--conf": "spark.executor.cores=8 --conf a.b=c --conf spark.task.cpus=4"}'
    )
    assert memory.fewer_tasks(memory.bytes * 5) is None


def test_emr_worker_is_warned_with_largest_memory_of_its_cores() -> None:
    emr = {**EMR, "buckets__count": 200}
    (warning,) = warnings(**emr)
    assert "a worker of 4 cores and 16 GB leaves about 3.0 GB to each of its 4 tasks" in warning
    assert warning.endswith("; set buckets.count=256 or set emr_serverless.memory_gb=30")
    assert warnings(**emr, emr_serverless__memory_gb=30) == []


@pytest.mark.parametrize(
    ("overrides", "gigabytes", "tasks"),
    [
        ({"glue__worker_type": "G.1X"}, 6 / 4, 4),
        ({"glue__worker_type": "R.8X"}, 96 / 32, 32),
        ({"glue__arguments": {"--conf": "spark.executor.memory=20g --conf spark.executor.cores=8"}}, 44 / 8, 8),
        ({"glue__arguments": {"--conf": "spark.executor.memory=90g"}}, 0, 16),
        ({**EMR, "emr_serverless__cores": 8, "emr_serverless__memory_gb": 60}, 40 / 8, 8),
    ],
)
def test_memory_of_task_is_what_the_jvm_leaves(overrides: dict[str, Any], gigabytes: float, tasks: int) -> None:
    memory = task_memory(services(**{**JOBS, **overrides}).settings)
    assert memory is not None
    assert (memory.bytes, memory.tasks) == (gigabytes * 2**30, tasks)


def worker_row(name: str, **overrides: Any) -> str:
    """Return the line of docs/spark.md about a worker."""
    memory = task_memory(services(**{**JOBS, **overrides}).settings)
    assert memory is not None
    (gigabytes,) = re.findall(r"(\d+) GB", memory.worker)
    fitting = " | ".join(str(memory.fitting(needed * 10**9)) for needed in (1, 2, 3, 6))
    return f"| {name} | {memory.tasks} | {gigabytes} GB | {memory.bytes / 1e9:.2f} GB | {fitting} |"


def test_documented_workers_follow_from_the_formulas() -> None:
    emr = EmrServerlessSettings()
    workers = [
        *(
            worker_row(f"Glue `{kind}`", glue__worker_type=kind)
            for kind in get_args(GlueJobSettings.model_fields["worker_type"].annotation)
        ),
        *(
            worker_row(
                f"EMR Serverless, `cores: {cores}`, `memory_gb: {memory}`",
                **EMR,
                emr_serverless__cores=cores,
                emr_serverless__memory_gb=memory,
            )
            for cores, memory in [
                (emr.cores, emr.memory_gb),
                *((cores, EmrServerlessSettings.most_memory_gb(cores)) for cores in (4, 8, 16)),
            ]
        ),
    ]
    page = (Path(__file__).parents[2] / "docs" / "spark.md").read_text(encoding="utf-8")
    table = [line for line in page.splitlines() if line.startswith(("| Glue `", "| EMR Serverless, `"))]
    assert table == workers


@pytest.mark.parametrize(("needed", "fitting"), [(1.5, 4), (1.6, 2), (3, 2), (6, 1), (6.1, 0)])
def test_fewer_tasks_fit_into_a_worker_if_each_needs_more(needed: float, fitting: int) -> None:
    memory = task_memory(services(**JOBS, glue__worker_type="G.1X").settings)
    assert memory is not None
    assert memory.fitting(needed * 2**30) == fitting


def test_run_outside_aws_has_no_task_memory() -> None:
    assert warnings(target="out") == []
    assert warnings(engine="arrow", target="out", memory="900GiB") == []


def test_dictionaries_of_all_columns_take_memory_of_each_task() -> None:
    def coded(page: int) -> DiscoverResult:
        columns = [column(f"c{number}", dictionary_bytes=page) for number in range(2000)]
        return discovered([column("Key", 10**6, uncompressed_bytes=12 * 22_500_000), *columns], [[150_000]] * 150)

    assert warnings(coded(page=1)) == []
    (warning,) = warnings(coded(page=32 * 2**10))
    assert warning.startswith(
        "gathering table addressable_ids of the largest bucket (87,891 rows) takes about 1.8 GB"
    )


def test_dictionaries_that_exceed_memory_alone_are_named() -> None:
    columns = [column(f"c{number}", dictionary_bytes=32 * 2**10) for number in range(2000)]
    source = discovered([column("Key"), *columns], [[1000]])
    options = {"--conf": "spark.executor.memory=62g"}
    (text,) = [text for text in size(source, **JOBS, glue__arguments=options).warnings if "to each of its" in text]
    assert text == (
        "Python and the dictionaries of all columns take about 306.6 MB, but a worker of type G.4X (64 GB) leaves "
        "about 134.2 MB to each of its 16 tasks; set glue.worker_type=R.4X or set "
        'glue.arguments={"--conf": "spark.executor.memory=62g --conf spark.task.cpus=4"} (4 tasks at a time)'
    )


def test_scatter_keeps_no_more_dictionaries_than_its_limit() -> None:
    assert scatter_memory(0, 0, 10**9) == scatter_memory(0, 0, 64 * 2**20) == PROCESS_BYTES + 3 * 64 * 2**20


@pytest.mark.parametrize(("order", "copies"), [("neighbors", 1 / 13), ("alternating", 1)])
def test_scatter_holds_all_columns_if_those_of_tables_alternate(order: str, copies: float) -> None:
    rows, tables, width, chunk = 100_000, 13, 100, 10_000
    names = [f"c{number}" for number in range(tables * width)]
    columns = [column("Key", 0), *(column(name, 2 * chunk) for name in names)]
    source = discovered(columns, [[rows]] * 2, dict.fromkeys(names, pa.float64()))
    groups = [
        names[number::tables] if order == "alternating" else names[number * width : (number + 1) * width]
        for number in range(tables)
    ]
    mapped = [tuple(ColumnMapping(source=name, name=name) for name in group) for group in groups]
    made = tuple(TableColumns(name=f"t{number}", columns=group) for number, group in enumerate(mapped))
    parts = split(source).model_copy(update={"tables": made})
    held = SourceScan.of(source, parts).held(source, size(source).slices)
    assert held.compressed_bytes == pytest.approx(copies * chunk * len(names), rel=0.01)
    assert held.decoded_bytes > BATCH_BYTES
    assert held.all_tables == (order == "alternating")


def test_slices_of_small_row_groups_are_not_advised_to_have_smaller_ones() -> None:
    rows, tables = 1000, 25
    names = [f"c{number}" for number in range(tables * 50)]
    columns = [column("Key", 0), *(column(name, 8_000_000) for name in names)]
    source = discovered(columns, [[rows // 10] * 10] * 1000, dict.fromkeys(names, pa.float64()))
    made = tuple(
        TableColumns(
            name=f"t{number}", columns=tuple(ColumnMapping(source=name, name=name) for name in names[number::tables])
        )
        for number in range(tables)
    )
    options = services(**JOBS, glue__arguments={"--conf": "spark.executor.memory=57g"}).settings
    parts = split(source).model_copy(update={"tables": made})
    layout = resolved_layouts(options)[0]
    text = shortage(options, source, parts, 4096, size(source).slices, layout)
    assert text is not None
    assert re.match(r"reading [\d,]+ row groups as one \([\d,]+ rows\) takes about ", text)
    assert text.endswith(", or write the columns of each table next to each other in the source")


def test_rows_without_key_enlarge_one_bucket() -> None:
    assert largest_bucket_rows(snapshot(1000, 1), 10) == 100
    assert largest_bucket_rows(snapshot(1000, 1, nulls=200), 10) == 280
    assert warnings(buckets__count=4096) == []
    (warning,) = warnings(snapshot(nulls=20_000_000), buckets__count=4096)
    assert "(20,086,425 rows)" in warning
    assert warning.endswith("; remove rows without a key or with a frequent one")


def test_wide_row_groups_are_warned_for_reading() -> None:
    (warning,) = warnings(snapshot(groups=40), buckets__count=100_000)
    assert warning.startswith("reading the largest row group (9,350,000 rows) takes about ")
    assert warning.endswith("or write the source with smaller row groups")
