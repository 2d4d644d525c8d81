"""Run the benchmarks, print the table and write the JSON file.

python -m integration.benchmarks --rows 100000 --runs 1 --scale 1,2     a quick look
python -m integration.benchmarks --show build/bench.json --markdown     an earlier table, for docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .bench import Bench
from .data import Data, existing, sample
from .machine import describe
from .measure import ROOT
from .results import Figures, targets
from .sections import BUDGET, MEMORY_SCALES, SECTIONS
from .shapes import SHAPES
from .table import render

_OWN_DATA = {"shape", "spark-shape", "foreign", "discover"}
_ENGINES = ("arrow", "spark")
# Shapes take as long as all others.
_DEFAULT = [name for name in SECTIONS if name != "shape"]


def main() -> int:
    """Return 1 if a run failed; speed never changes the exit code."""
    options = _parser().parse_args()
    if options.show:
        print(render(json.loads(options.show.read_text(encoding="utf-8")), options.markdown))
        return 0
    # On SIGTERM, leave the context managers below, which clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    machine, date = describe(), datetime.now(UTC).isoformat(timespec="seconds")
    data = _data(options, build)
    # Not deleted here: that would slow down the next run, see `measure`.
    work = Path(tempfile.mkdtemp(prefix="bench-work-", dir=build))
    limits = (options.runs, options.timeout, options.scale)
    bench = Bench(data, build, work, *limits, shapes=options.shapes, engines=options.engines)
    for name in options.only:
        SECTIONS[name](bench)
        # After each section, so that a later failure loses no results.
        report = {"date": date, "machine": machine, **_report(bench, options)}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(render(report, options.markdown))
    return 1 if any(run.error for run in bench.runs) else 0


def _data(options: argparse.Namespace, build: Path) -> Data:
    if options.data:
        return existing(options.data)
    # These sections make their own.
    if _OWN_DATA.issuperset(options.only):
        return Data("", options.rows, 0, 0)
    return sample(options.rows, build)


def _report(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    figures = Figures(bench.runs)
    wanted = targets(figures, bench.scales, MEMORY_SCALES, BUDGET)
    failed = [f"{run.section}: {run.name}, round {run.round} failed: {run.error}" for run in bench.runs if run.error]
    return {
        "data": bench.data.record(),
        "options": {"runs": bench.rounds, "only": options.only, "scale": bench.scales},
        "runs": [asdict(run) for run in bench.runs],
        "medians": figures.medians(),
        "ratios": figures.ratios(),
        "targets": [asdict(target) for target in wanted if target.section in options.only],
        "notes": bench.notes + failed,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m integration.benchmarks", description="Measure speed and memory.")
    parser.add_argument("--rows", type=_positive, default=2_000_000, help="rows of the data (default: %(default)s)")
    parser.add_argument("--runs", type=_positive, default=3, help="rounds of each section (default: %(default)s)")
    parser.add_argument(
        "--only",
        type=_sections,
        default=_DEFAULT,
        metavar="NAME,…",
        help=f"of {', '.join(SECTIONS)} (default: all but shape)",
    )
    parser.add_argument(
        "--scale", type=_scales, default=(1, 4, 8), metavar="N,…", help="multiples of the rows (default: 1,4,8)"
    )
    parser.add_argument(
        "--shapes", type=_shapes, default=tuple(SHAPES), metavar="NAME,…", help=f"of {', '.join(SHAPES)}"
    )
    parser.add_argument(
        "--engines", type=_engines, default=("arrow",), metavar="NAME,…",
        help="engines of section shape: arrow, spark (default: arrow)",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR", help="data of `bucketwheel sample` to use instead")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", metavar="FILE")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument(
        "--show", type=Path, metavar="FILE", help="print the tables of an earlier JSON file and measure nothing"
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _scales(text: str) -> tuple[int, ...]:
    return tuple(sorted({_positive(part) for part in text.split(",")}))


def _sections(text: str) -> list[str]:
    return list(_known(text, SECTIONS))


def _shapes(text: str) -> tuple[str, ...]:
    return _known(text, SHAPES)


def _engines(text: str) -> tuple[str, ...]:
    return _known(text, _ENGINES)


def _known(text: str, known: Collection[str]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
