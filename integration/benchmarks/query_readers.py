"""Query the same tables in several layouts with Spark 3.5, Spark 4.1, Trino and DuckDB.

python -m integration.benchmarks.query_readers DATA OUT ROUNDS SECONDS

Publishes five tables in each layout on disk, then starts one reader after the other in a process of its own, within
SECONDS in all. A reader, layout or query that fails is named under `failed`; the others are measured. Deletes what
is below OUT. Prints one JSON object.
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

from .measure import ROOT, last_error, module
from .reader_layouts import FILES, LAYOUTS, UNBUCKETED, VARIANTS, described, one_column_table, published
from .reader_results import collected
from .reader_rounds import Work
from .reader_source import KEY, Source

_SPARK_4 = ROOT / ".venv-readers" / "bin" / "python"
# A reader begins no round that would probably end in this last part of its time, after which it is killed.
_RESERVE = 0.15
_PARTNER = "partner"


@dataclass(frozen=True)
class Reader:
    """A program that answers queries in a process of its own."""

    name: str
    module: str
    python: str = sys.executable
    is_spark: bool = False

    @property
    def command(self) -> list[str]:
        return [self.python, *module(self.module)[1:]]


READERS = (
    Reader("DuckDB", "engine_duckdb"),
    Reader("Trino", "engine_trino"),
    Reader("Spark 3.5", "engine_spark", is_spark=True),
    Reader("Spark 4.1", "engine_spark", str(_SPARK_4), is_spark=True),
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
    partner = out / _PARTNER
    source = Source(data, [table["Name"] for table in tables[UNBUCKETED]], partner)
    queries = source.queries()
    variants = [variant for variant in VARIANTS if variant.layout in tables]
    listed = one_column_table(_PARTNER, KEY, partner)
    work = Work(str(out), rounds, 0, FILES, str(partner), listed, tables, variants, queries)
    answers = source.digests(queries)
    source.connection.close()
    measured = {}
    for index, reader in enumerate(READERS):
        seconds = (deadline - time.monotonic()) / (len(READERS) - index)
        lines, error = answered(reader, work, seconds)
        found = collected(reader.name, lines, answers)
        for text in [*([f"{reader.name}: {error}"] if error else []), *found.failed]:
            fail(text)
        if found.figures:
            measured[found.name] = found.figures
    return {"readers": measured, "tables": described(tables), "failed": failed}


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
