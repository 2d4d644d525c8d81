"""Compute figures from runs: medians, ratios per round, and comparisons with targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .data import TABLES
from .data_sets import BUDGET as BUDGET_RUN
from .data_sets import BUDGET_BYTES, LARGE_FILES
from .footer_tasks import FOOTERS, name_of
from .measure import Run
from .shapes import FOREIGN, SHAPES

MEASURES = ("cpu_seconds", "wall_seconds", "peak_rss_bytes", "bytes_written", "files_written")


@dataclass(frozen=True)
class Target:
    """A figure with its target; `met` is None if nothing was measured."""

    section: str
    what: str
    wanted: str
    seen: str
    met: bool | None


class Figures:
    """Medians and ratios of the successful runs."""

    def __init__(self, runs: Sequence[Run], tables: int = TABLES) -> None:
        self._runs = [_extrapolated(run, tables) if run.name == "awswrangler" else run for run in runs]

    def medians(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return section → name → medians, largest peak memory, and number of successful and failed runs."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for section, name in dict.fromkeys((run.section, run.name) for run in self._runs):
            runs = [run for run in self._runs if (run.section, run.name) == (section, name)]
            good = [run for run in runs if run.error is None]
            values: dict[str, Any] = {key: median(getattr(run, key) for run in good) for key in MEASURES if good}
            if good:
                values["largest_peak_rss_bytes"] = max(run.peak_rss_bytes for run in good)
            found.setdefault(section, {})[name] = {
                **values,
                "rows": runs[0].rows,
                "runs": len(good),
                "failed": len(runs) - len(good),
                "scaled": name == "awswrangler",
            }
        return found

    def ratio(self, section: str, over: str, under: str, value: Callable[[Run], float]) -> float | None:
        """Return the median of the ratios of two tasks in the same round."""
        rounds = {run.round: run for run in self._good(section, under)}
        pairs = [(run, rounds[run.round]) for run in self._good(section, over) if run.round in rounds]
        return median(value(a) / value(b) for a, b in pairs) if pairs else None

    def ratios(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Return CPU time, wall time and bytes of each task of a section, relative to its first task."""
        found: dict[str, dict[str, dict[str, float | None]]] = {}
        for section, names in self.medians().items():
            first = next(iter(names))
            for name in list(names)[1:]:
                found.setdefault(section, {})[f"{name} / {first}"] = {
                    "cpu": self.ratio(section, name, first, cpu),
                    "wall": self.ratio(section, name, first, wall),
                    "bytes": self.ratio(section, name, first, written),
                    "cpu_per_row": self.ratio(section, name, first, cpu_per_row),
                }
        return found

    def peak(self, section: str, name: str) -> float | None:
        """Return the largest peak memory of any run, in bytes."""
        return max((run.peak_rss_bytes for run in self._good(section, name)), default=None)

    def reported(self, section: str, name: str, key: str) -> float | None:
        """Return the median of a list of figures that the tasks reported."""
        values = [value for run in self._good(section, name) for value in (run.report or {})[key]]
        return median(values) if values else None

    def wall(self, section: str, name: str) -> float | None:
        """Return the median wall time."""
        values = [run.wall_seconds for run in self._good(section, name)]
        return median(values) if values else None

    def _good(self, section: str, name: str) -> list[Run]:
        return [run for run in self._runs if (run.section, run.name) == (section, name) and run.error is None]


def cpu(run: Run) -> float:
    return run.cpu_seconds


def wall(run: Run) -> float:
    return run.wall_seconds


def written(run: Run) -> float:
    return max(run.bytes_written, 1)


def cpu_per_row(run: Run) -> float:
    return run.cpu_seconds / max(run.rows, 1)


def _extrapolated(run: Run, tables: int) -> Run:
    """Extrapolate two fractions to all rows of all tables: a fixed cost per table and a cost per row."""
    if run.report is None:
        return run
    small, large = run.report["fractions"]

    def whole(key: str) -> float:
        slope = max(large[key] - small[key], 0) / (large["rows"] - small["rows"])
        fixed = max(small[key] - slope * small["rows"], 0)
        return float(tables * (fixed + slope * run.rows))

    values = {**asdict(run), **{key: whole(key) for key in MEASURES if key != "peak_rss_bytes"}}
    values.update(files_written=tables * large["files_written"], bytes_written=int(whole("bytes_written")))
    return Run(**values)


def targets(figures: Figures, scales: Iterable[int], memory_scales: Iterable[int], budget: str) -> list[Target]:
    """Return all figures, in the order of the report."""
    found = [
        _below("peers", "CPU of the whole run ÷ plain copy", 1.3, figures.ratio("peers", "bucketwheel", "copy", cpu)),
        _ahead("peers", "Wall time ÷ Polars", figures.ratio("peers", "bucketwheel", "polars", wall)),
        _ahead("peers", "Wall time ÷ DuckDB", figures.ratio("peers", "bucketwheel", "duckdb", wall)),
        _below("peers", "Bytes written ÷ plain copy", 1.15, figures.ratio("peers", "bucketwheel", "copy", written)),
    ]
    found += [*_spark(figures), *_spark_shape(figures), *_workers(figures)]
    for factor in memory_scales:
        small, free = f"{factor}x {budget}", f"{factor}x auto"
        peak = figures.peak("memory", small)
        found += [
            _below("memory", f"Peak memory with memory={budget}, {factor}x the rows", 900e6, peak, 1e6, " MB"),
            _below("memory", f"Wall time with memory={budget} ÷ unconstrained, {factor}x",
                   1.7, figures.ratio("memory", small, free, wall)),
            _below("memory", f"CPU with memory={budget} ÷ unconstrained, {factor}x",
                   1.7, figures.ratio("memory", small, free, cpu)),
        ]  # fmt: skip
    base, *more = scales
    for factor in more:
        seen = figures.ratio("scale", f"{factor}x", f"{base}x", cpu_per_row)
        met = None if seen is None else abs(seen - 1) <= 0.2
        found.append(Target("scale", f"CPU per row, {factor}x ÷ {base}x the rows", "0.80 to 1.20", _text(seen), met))
    return found + _footers(figures) + _single_figures(figures) + _shapes(figures) + _foreign(figures)


def _shapes(figures: Figures) -> list[Target]:
    found = []
    for name, shape in SHAPES.items():
        section = f"shape-{name}"
        peak = figures.peak(section, BUDGET_RUN)
        found += [
            _below("shape", f"CPU ÷ copy, files of 50,000 rows or more, {shape.title}", 1.3,
                   figures.ratio(section, LARGE_FILES, "copy", cpu)),
            _below("shape", f"Peak memory ÷ memory, {shape.title}", 1.5, peak and peak / BUDGET_BYTES),
        ]  # fmt: skip
    return found


def _foreign(figures: Figures) -> list[Target]:
    found = []
    for name, title in FOREIGN.items():
        section = f"foreign-{name}"
        found += [
            _below("foreign", f"CPU ÷ copy, {title}", 1.0, figures.ratio(section, "bucketwheel", "copy", cpu)),
            _ahead("foreign", f"Wall time ÷ Polars, {title}", figures.ratio(section, "bucketwheel", "polars", wall)),
            _ahead("foreign", f"Wall time ÷ DuckDB, {title}", figures.ratio(section, "bucketwheel", "duckdb", wall)),
            _below("foreign", f"Bytes written ÷ copy, {title}", 1.0,
                   figures.ratio(section, "bucketwheel", "copy", written)),
        ]  # fmt: skip
    return found


def _spark(figures: Figures) -> list[Target]:
    # What comes before any work: Python and imports with both engines, a JVM and its first worker with one.
    starts = {"spark": figures.wall("spark", "session"), "arrow": figures.wall("spark", "start")}

    def without_start(run: Run) -> float:
        return run.wall_seconds - (starts[run.name] or 0)

    shuffled = figures.reported("spark", "watched", "shuffled_per_read_byte")
    peak = figures.reported("spark", "watched", "worker_peak_rss_bytes")
    return [
        _times("spark", "Previous pipeline ÷ spark engine, wall", 4,
               figures.ratio("spark", "replaced", "spark", wall)),
        _times("spark", "Spark's own Hive buckets ÷ spark engine, wall", 2,
               figures.ratio("spark", "hive", "spark", wall)),
        _below("spark", "Spark engine ÷ arrow engine, wall", 2, figures.ratio("spark", "spark", "arrow", wall)),
        _below("spark", "Spark engine ÷ arrow engine, wall, without start-up", 1.6,
               figures.ratio("spark", "spark", "arrow", without_start) if all(starts.values()) else None),
        _below("spark", "Bytes shuffled ÷ compressed bytes read", 1.3, shuffled),
        Target("spark", "Peak memory of a Python worker", "reported, no target", _text(peak, 1e6, " MB"), None),
    ]  # fmt: skip


def _spark_shape(figures: Figures) -> list[Target]:
    """Return the CPU time of a value in the miniature of production, and the length of its shuffle blocks."""
    section, wide = "spark-shape", "production"
    ratio = figures.ratio(section, wide, "standard", lambda run: float((run.report or {})["nanoseconds"][0]))
    nanoseconds, rows = (figures.reported(section, wide, key) for key in ("nanoseconds", "block_rows"))
    unbounded = "reported, no target"
    return [
        _below(section, "CPU of a value on Spark, miniature of production ÷ standard shape", 1.5, ratio),
        Target(section, "CPU of a value, miniature of production", unbounded, _text(nanoseconds, 1, " ns"), None),
        Target(section, "Rows of a shuffle block, miniature of production", unbounded, _text(rows), None),
    ]


def _workers(figures: Figures) -> list[Target]:
    """Return the speed-up of two workers for the whole job and for stage `bucket`."""
    found = []
    for part, what in (("whole", "the whole job"), ("bucket", "its stage bucket"), ("verify", "its stage verify")):
        one, two = (figures.reported("workers", name, part) for name in ("one worker", "two workers"))
        seen = None if one is None or two is None else one / two
        found.append(Target("workers", f"One worker ÷ two workers, {what}", "reported, no target", _text(seen), None))
    return found


def _footers(figures: Figures) -> list[Target]:
    """Return CPU time and memory of stage `discover`."""
    found = []
    for columns, files in FOOTERS:
        name = name_of(columns)
        seconds, peak = (figures.reported("discover", name, key) for key in ("cpu_seconds", "driver_peak_rss_bytes"))
        one = None if seconds is None else seconds / files
        what = f"{files:,} files of {columns:,} columns"
        if files == max(count for _, count in FOOTERS):
            found.append(_below("discover", f"CPU of `discover`, {what}", 60, seconds, 1, " s"))
        unbounded = "reported, no target"
        found += [
            Target("discover", f"CPU of `discover` for each of {what}", unbounded, _text(one, 1e-3, " ms"), None),
            Target("discover", f"Peak memory of `discover`, {what}", unbounded, _text(peak, 1e6, " MB"), None),
        ]
    return found


def _single_figures(figures: Figures) -> list[Target]:
    many, few = "1024 buckets", "32 buckets"
    strings, bigints = (figures.reported("hashing", "hash_keys", key) for key in ("string", "bigint"))
    return [
        _below("buckets", "CPU of 1,024 buckets ÷ 32", 1.6, figures.ratio("buckets", many, few, cpu)),
        _below("buckets", "Wall time of 1,024 buckets ÷ 32", 1.6, figures.ratio("buckets", many, few, wall)),
        _below("layouts", "CPU of two layouts from one scan ÷ one", 1.6, figures.ratio("layouts", "two", "one", cpu)),
        _above("hashing", "Hashing 19-character strings, one core", 15e6, strings),
        _above("hashing", "Hashing bigints, one core", 100e6, bigints),
        _below("help", "bucketwheel --help", 0.3, figures.wall("help", "--help"), 1, " s"),
    ]


def _below(section: str, what: str, limit: float, seen: float | None, unit: float = 1, name: str = "") -> Target:
    wanted = f"at most {limit / unit:g}{name}"
    return Target(section, what, wanted, _text(seen, unit, name), None if seen is None else seen <= limit)


def _above(section: str, what: str, limit: float, seen: float | None) -> Target:
    wanted = f"at least {limit / 1e6:g} million/s"
    return Target(section, what, wanted, _text(seen, 1e6, " million/s"), None if seen is None else seen >= limit)


def _times(section: str, what: str, limit: float, seen: float | None) -> Target:
    return Target(section, what, f"at least {limit:g}", _text(seen), None if seen is None else seen >= limit)


def _ahead(section: str, what: str, seen: float | None) -> Target:
    return Target(section, what, "below 1", _text(seen), None if seen is None else seen < 1)


def _text(seen: float | None, unit: float = 1, name: str = "") -> str:
    if seen is None:
        return "not measured"
    value = seen / unit
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}{name}"
