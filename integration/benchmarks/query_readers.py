"""Query the same tables in several layouts with Spark 3.5, Spark 4.1, Trino and DuckDB.

python -m integration.benchmarks.query_readers DATA OUT ROUNDS SECONDS

Publishes five tables in each layout on disk, then starts one reader after the other in a process of its own, within
SECONDS in all. A reader, layout or query that fails is named under `failed`; the others are measured. Trino, which
cannot read Bucketwheel's Iceberg tables on local disk, reads those that Spark writes; so do all if Bucketwheel fails
to write them. Deletes what is below OUT. Prints one JSON object.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from integration.interop.maven import NotInstalledError

from .measure import ROOT, last_error, module
from .reader_iceberg import CATALOG, DATABASE, glue_tables, metadata_files, spark_settings
from .reader_layouts import FILES, LAYOUTS, UNBUCKETED, VARIANTS, described, one_column_table, published, schema
from .reader_results import collected
from .reader_rounds import ICEBERG, Work
from .reader_source import KEY, Source

_READERS = ROOT / ".venv-readers" / "bin" / "python"
# A reader begins no round that would probably end in this last part of its time, after which it is killed.
_RESERVE = 0.15
_WRITE_SECONDS = 600
_PARTNER = "partner"
BY_SPARK = "iceberg, written by Spark"
_BY_SPARK = "iceberg-by-spark"


@dataclass(frozen=True)
class Reader:
    """A program that answers queries in a process of its own."""

    name: str
    module: str
    python: str = sys.executable
    is_spark: bool = False
    # Whether it takes no Iceberg tables whose files have paths, as Bucketwheel's on local disk, instead of addresses.
    needs_addresses: bool = False

    @property
    def version(self) -> str:
        return self.name.rpartition(" ")[2]

    @property
    def command(self) -> list[str]:
        return [self.python, *module(self.module)[1:]]


READERS = (
    Reader("DuckDB", "engine_duckdb", str(_READERS)),
    Reader("Trino", "engine_trino", needs_addresses=True),
    Reader("Spark 3.5", "engine_spark", is_spark=True),
    Reader("Spark 4.1", "engine_spark", str(_READERS), is_spark=True),
)


def main() -> None:
    data, out, rounds, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    deadline = time.monotonic() + seconds
    try:
        print(json.dumps(report(data, out, rounds, deadline)))
    finally:
        for path in out.iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def report(data: Path, out: Path, rounds: int, deadline: float) -> dict[str, Any]:
    """Publish the layouts, measure the readers, and return the figures."""
    failed: list[str] = []

    def fail(text: str) -> None:
        failed.append(text)
        print(f"failed: {text}", file=sys.stderr)

    tables: dict[str, list[dict[str, Any]]] = {}
    for name in LAYOUTS:
        try:
            tables[name] = list(published(name, data, out))
        except Exception as error:
            if name == UNBUCKETED:
                raise
            fail(f"layout {name}: {type(error).__name__}: {error}")
    try:
        by_spark = written_by_spark(tables[UNBUCKETED], out / _BY_SPARK)
    except Exception as error:  # noqa: BLE001 the other layouts are measured
        by_spark = []
        fail(f"layout {BY_SPARK}: {type(error).__name__}: {error}")
    partner = out / _PARTNER
    source = Source(data, [table["Name"] for table in tables[UNBUCKETED]], partner)
    queries = source.queries()
    variants = [variant for variant in VARIANTS if variant.layout in tables]
    listed = one_column_table(_PARTNER, KEY, partner)
    work = Work(str(out), rounds, 0, FILES, str(partner), listed, tables, {}, variants, queries)
    answers = source.digests(queries)
    source.connection.close()
    measured = {}
    for index, reader in enumerate(READERS):
        seconds = (deadline - time.monotonic()) / (len(READERS) - index)
        try:
            lines, error = answered(reader, with_iceberg(reader, work, by_spark), seconds)
        except NotInstalledError as missing:
            lines, error = [], str(missing)
        found = collected(reader.name, lines, answers)
        for text in [*([f"{reader.name}: {error}"] if error else []), *found.failed]:
            fail(text)
        if found.figures:
            measured[found.name] = found.figures
    return {"readers": measured, "tables": described(tables), "failed": failed}


def with_iceberg(reader: Reader, work: Work, by_spark: list[dict[str, Any]]) -> Work:
    """Return the work with the Iceberg tables that this reader can read, and the settings of its session."""
    if by_spark and (reader.needs_addresses or ICEBERG not in work.tables):
        variant = replace(VARIANTS[-1], name=BY_SPARK)
        others = [other for other in work.variants if not other.is_iceberg]
        work = replace(work, tables={**work.tables, ICEBERG: by_spark}, variants=[*others, variant])
    if not reader.is_spark or ICEBERG not in work.tables:
        return work
    place = Path(work.out, _BY_SPARK if work.tables[ICEBERG] is by_spark else ICEBERG)
    return replace(work, spark_settings=spark_settings(reader.version, place / DATABASE))


def written_by_spark(tables: list[dict[str, Any]], place: Path) -> list[dict[str, Any]]:
    """Write tables as Iceberg tables with Spark, and return them as Glue would have them."""
    place.mkdir()
    question, log = place / "question.json", place / "log"
    session = {"spark.driver.memory": "4g", "spark.local.dir": str(place / "local")}
    given = {
        "settings": {**spark_settings("3.5", place / DATABASE), **session},
        "schema": f"{CATALOG}.{schema(ICEBERG)}",
        "key": KEY,
        "buckets": FILES,
        "tables": {table["Name"]: table["StorageDescriptor"]["Location"] for table in tables},
    }
    question.write_text(json.dumps(given), encoding="utf-8")
    with log.open("wb") as stream:
        command = [*module("write_iceberg"), str(question)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=ROOT)
    try:
        if code := process.wait(_WRITE_SECONDS):
            raise RuntimeError(f"exit code {code}: {last_error(log)}")
    finally:
        _kill(process)
    return glue_tables(metadata_files(place / DATABASE))


def answered(reader: Reader, work: Work, seconds: float) -> tuple[list[dict[str, Any]], str | None]:
    """Run a reader for at most that long; return its answers, and why it ended early."""
    if not Path(reader.python).exists():
        return [], f"{reader.python} is missing: run `make readers`"
    place = Path(work.out, reader.name.replace(" ", "-"))
    place.mkdir()
    given, answers, log = place / "work.json", place / "answers.jsonl", place / "log"
    variants = [variant for variant in work.variants if reader.is_spark or not variant.spark_only]
    own = replace(work, seconds=seconds * (1 - _RESERVE), variants=variants)
    given.write_text(json.dumps(asdict(own)), encoding="utf-8")
    print(f"{reader.name}: at most {seconds:.0f} s", file=sys.stderr)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*reader.command, str(given), str(answers)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            cwd=ROOT,
        )
    try:
        code = process.wait(max(seconds, 1))
        error = f"exit code {code}: {last_error(log)}" if code else None
    except subprocess.TimeoutExpired:
        error = f"still ran after {seconds:.0f} s; raise --timeout, or choose fewer --rows or a smaller --scale"
    finally:
        _kill(process)
    return _lines(answers), error


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a reader and the servers that it started."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the answers; the last line of a reader that was killed may be incomplete."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


if __name__ == "__main__":
    main()
