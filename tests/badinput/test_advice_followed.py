"""Follow the advice of every error, as it is printed, to a finished run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bucketwheel import errors, plugins
from bucketwheel.advice import is_advice
from bucketwheel.errors import BucketwheelError
from bucketwheel.lease import Lease
from bucketwheel.sample import Sample
from bucketwheel.settings import STAGES
from project import DATABASE, NARROW, WIDE, Project, Result

Dirty = Callable[..., Sample]


def kinds(base: type[BucketwheelError] = BucketwheelError) -> Iterator[type[BucketwheelError]]:
    """Yield the class and every class below it that `errors` defines."""
    if base.__module__ == errors.__name__:
        yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


KINDS = list(dict.fromkeys(kinds()))


def advice_in(result: Result) -> str:
    """Return the advice, which is the last line."""
    line = result.stderr.splitlines()[-1]
    assert is_advice(line), result.stderr
    return line


def follow(project: Project, line: str) -> Result:
    """Run the command of a line of advice."""
    command = line.partition(": ")[2] if line.startswith("To ") else line.partition(", then run again: ")[2]
    words = shlex.split(command)
    assert words[0] == "bucketwheel"
    return project.cli(*words[1:])


def newest(project: Project, dataset: str) -> dict[str, object]:
    run_id = project.run_ids(dataset)[-1]
    found: dict[str, object] = json.loads(project.cli("show", run_id, "--output", "json").stdout)
    return found


@contextmanager
def raising(stage: str, error: BaseException) -> Iterator[None]:
    """Make a stage raise."""

    def fail(*_: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(plugins.stage(stage)), "run", fail)
        yield


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, clean: Sample) -> Project:
    """A project whose runs take little time, with an environment and a directory that need options."""
    project = Project(tmp_path_factory.mktemp("it's a") / "project", clean)
    project.set(buckets={"count": 1}, quality={"drift": "off"})
    (project.conf / "night.yaml").write_text("threads: 1\n")
    return project


@pytest.mark.parametrize("kind", [*KINDS, KeyboardInterrupt], ids=lambda kind: kind.__name__)
@settings(max_examples=1, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_advice_of_every_error_ends_in_the_same_run(
    small: Project, no_flush: None, kind: type[BaseException], data: st.DataObject
) -> None:
    stage = data.draw(st.sampled_from(STAGES), "stage")
    buckets = data.draw(st.integers(2, 5), "buckets")
    by_variable = data.draw(st.booleans(), "set by an environment variable")
    options = data.draw(
        st.sets(st.sampled_from(["--snapshot-dt=2025-10-22", f"--tables-filter={NARROW}"])), "options"
    )
    accept = data.draw(st.sampled_from([{}, {"quality.duplicate_keys": "allow"}]), "advised setting")
    with pytest.MonkeyPatch.context() as patch:
        words = ["run", NARROW, *sorted(options)]
        if by_variable:
            patch.setenv("BUCKETWHEEL_ENV", "night")
            patch.setenv("BUCKETWHEEL_CONF", str(small.conf))
            patch.setenv("BUCKETWHEEL__BUCKETS__COUNT", str(buckets))
        else:
            words += ["--env", "night", "--set", f"buckets.count={buckets}"]
        error = kind("as planned", accept=accept) if issubclass(kind, BucketwheelError) else kind()
        with raising(stage, error):
            failed = small.cli(*words)
    assert failed.exit_code == getattr(kind, "exit_code", 130)
    line = advice_in(failed)
    if accept and issubclass(kind, BucketwheelError):
        assert line.startswith("To ")
        assert "--set quality.duplicate_keys=allow" in line
    done = follow(small, line)
    assert done.exit_code == 0, f"{line}\n{done.stderr}"
    run = newest(small, NARROW)
    assert run["status"] == "finished"
    assert run["stages"]["size"]["result"]["bucket_count"] == buckets  # type: ignore[index]
    assert run["tables_filter"] == ([NARROW] if f"--tables-filter={NARROW}" in options else [])


class Trouble:
    """A project that published last month, and one thing that is wrong with this month's run.

    `options` are those of the failing command, `fix` mends what is wrong outside of it.
    """

    def __init__(self, project: Project, dirty: Dirty) -> None:
        self.project, self.dirty = project, dirty
        self.sample = dirty(None)
        project.use(self.sample)
        self.options: list[str] = []
        self.dataset = WIDE
        self.fix: Callable[[], object] = lambda: pytest.fail("the command should have worked as printed")

    def without_fix(self, *options: str) -> None:
        self.options = list(options)

    def mapping_with_unknown_column(self) -> None:
        good = self.sample.mapping.read_text()
        self.sample.mapping.write_text(f"{good}IBE_01,Nobody\n")
        self.fix = lambda: self.sample.mapping.write_text(good)

    def snapshot_missing(self) -> None:
        aside = self.sample.source.parent / "aside"
        self.sample.snapshot.rename(aside)
        self.fix = lambda: aside.rename(self.sample.snapshot)

    def file_truncated(self) -> None:
        path = next(self.sample.snapshot.glob("*.parquet"))
        good = path.read_bytes()
        path.write_bytes(good[:-100])
        self.fix = lambda: path.write_bytes(good)

    def page_unreadable(self) -> None:
        path = next(self.sample.snapshot.glob("*.parquet"))
        good = path.read_bytes()
        path.write_bytes(good[:4] + bytes(2000) + good[2004:])
        self.fix = lambda: path.write_bytes(good)

    def key_unknown(self) -> None:
        good = self.project.settings["datasets"][WIDE]
        self.project.set(datasets={WIDE: {**good, "key": "Nobody"}})
        self.fix = lambda: self.project.set(datasets={WIDE: good})

    def null_keys(self) -> None:
        self.project.use(self.dirty("null_keys"))

    def lease_held(self) -> None:
        lease = Lease(f"{self.project.target}/_bucketwheel/{WIDE}", 3600)
        lease.__enter__()
        self.fix = lambda: lease.__exit__(None, None, None)

    def catalog_obstructed(self) -> None:
        self.project.catalog.rename(self.project.root / "aside")
        self.project.catalog.mkdir()

        def fix() -> None:
            self.project.catalog.rmdir()
            (self.project.root / "aside").rename(self.project.catalog)

        self.fix = fix

    def foreign_table(self) -> None:
        self._sql(f'CREATE OR REPLACE VIEW "{DATABASE}".ext_ibe_01 AS SELECT 1 AS x')
        self.fix = lambda: self._sql(f'DROP VIEW "{DATABASE}".ext_ibe_01')

    def target_inside_source(self) -> None:
        good = self.project.settings["target"]
        self.project.set(target=f"{self.sample.source}/made")
        self.fix = lambda: self.project.set(target=good)

    def withdrawn_and_too_many_rows(self) -> None:
        assert self.project.cli("run", WIDE).exit_code == 0
        withdrawn = self.project.run_ids()[-1]
        assert self.project.cli("rollback", "--previous", WIDE).exit_code == 0
        self.options = ["--set", "quality.max_rows_changed_percent=1", "--set", "buckets.count=2"]
        self.fix = lambda: self.project.cli("unmark", withdrawn)

    def layout_changed_after_failure(self) -> None:
        self.null_keys()
        assert self.project.cli("run", WIDE).exit_code == 3
        self.options = ["--set", "buckets.count=3", "--set", "quality.null_keys=warn", "--resume", "last"]

    def _sql(self, text: str) -> None:
        with duckdb.connect(str(self.project.catalog)) as connection:
            connection.execute(text)


TROUBLES: dict[str, tuple[int, str, Callable[[Trouble], object]]] = {
    "mapping": (2, "Fix the mapping, then run again: ", Trouble.mapping_with_unknown_column),
    "column limit": (
        2, "To start a new run: ",
        lambda trouble: trouble.without_fix(
            "--set", "split.column_limit=2", "--set", "split.columns_over_limit=error",
            "--set", "quality.schema_changes=allow",
        ),
    ),
    "table": (2, "To start a new run: ", lambda trouble: trouble.without_fix("--TABLES_FILTER=ibe_O2")),
    "stage": (2, "To start a new run: ", lambda trouble: trouble.without_fix("--stages", "discover,splt")),
    "snapshot": (3, "Load the snapshot or fix the configuration, then run again: ", Trouble.snapshot_missing),
    "footer": (3, "Replace the files, then run again: ", Trouble.file_truncated),
    "page": (3, "Replace the files, then run again: ", Trouble.page_unreadable),
    "key": (3, "Correct the snapshot or the configuration, then run again: ", Trouble.key_unknown),
    "null keys": (3, "To resume: ", Trouble.null_keys),
    "two limits": (
        3,
        "To start a new run: ",
        lambda trouble: trouble.without_fix(
            *("--set", "quality.max_rows_changed_percent=1", "--set", "quality.max_null_share_changed_points=0.1")
        ),
    ),
    "limits of two stages": (
        2,
        "To start a new run: ",
        lambda trouble: trouble.without_fix(
            *("--set", "split.column_limit=2", "--set", "quality.max_rows_changed_percent=1")
        ),
    ),
    "withdrawn": (
        3,
        "Correct the snapshot or the mapping, or add --force, then run again: ",
        Trouble.withdrawn_and_too_many_rows,
    ),
    "lease": (4, "Wait until the other process has finished, then run again: ", Trouble.lease_held),
    "catalog": (2, "Fix the configuration, then run again: ", Trouble.catalog_obstructed),
    "foreign table": (2, "Rename or drop the table, then run again: ", Trouble.foreign_table),
    "target": (2, "Fix the configuration, then run again: ", Trouble.target_inside_source),
    "layout": (2, "To start a new run: ", Trouble.layout_changed_after_failure),
}  # fmt: skip


@pytest.mark.parametrize("name", TROUBLES)
def test_advice_after_a_real_failure_ends_in_a_finished_run(published: Project, dirty: Dirty, name: str) -> None:
    exit_code, start, prepare = TROUBLES[name]
    trouble = Trouble(published, dirty)
    prepare(trouble)
    failed = published.cli("run", WIDE, *trouble.options)
    line = advice_in(failed)
    assert (failed.exit_code, line[: len(start)]) == (exit_code, start), failed.stderr
    if not start.startswith("To "):
        trouble.fix()
    done = follow(published, line)
    assert done.exit_code == 0, f"{line}\n{done.stderr}"
    assert newest(published, WIDE)["status"] == "finished"
    if name != "stage":
        assert 1200 in published.published().values()


def test_corrected_mapping_needs_no_other_command(published: Project, dirty: Dirty) -> None:
    trouble = Trouble(published, dirty)
    trouble.mapping_with_unknown_column()
    before = published.run_ids()
    assert published.cli("run", WIDE, "--resume", "last").exit_code == 2
    assert published.run_ids() == before
    trouble.fix()
    done = published.run("--resume", "last")
    assert f"nothing to resume, the newest run {before[-1]} is finished" in done.stderr
    assert set(published.published().values()) == {1200}
