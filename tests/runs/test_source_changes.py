"""A source that changes during a run is never published."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from bucketwheel import plugins
from bucketwheel.contracts import BucketJob
from bucketwheel.engines.arrow import ArrowEngine
from bucketwheel.errors import ResumeError, SourceChangedError
from bucketwheel.runs.manifest import BucketOutcome, DiscoverResult
from bucketwheel.settings import Settings
from runs_support import JANUARY, Case, notes_of

FIRST = "part-0.parquet"


def replace_file(directory: Path) -> None:
    """Replace a file by one of the same size and time."""
    path, copy = directory / FIRST, directory / "_copy"
    status = path.stat()
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    copy.replace(path)


def rewrite_file(directory: Path) -> None:
    (directory / FIRST).write_bytes((directory / "part-1.parquet").read_bytes())


def delete_file(directory: Path) -> None:
    (directory / FIRST).unlink()


def add_file(directory: Path) -> None:
    (directory / "part-2.parquet").write_bytes((directory / FIRST).read_bytes())


CHANGES = (replace_file, rewrite_file, delete_file, add_file)


class ChangedSource:
    """Changes the source before or after an engine reads it."""

    def __init__(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._before, self._after = before, after

    def __call__(self, settings: Settings) -> ArrowEngine:
        changing = self

        class Engine(ArrowEngine):
            def bucket(
                self, job: BucketJob, done: Collection[int], advance: Callable[[int, int], None]
            ) -> Iterator[BucketOutcome]:
                changing._before()
                yield from super().bucket(job, done, advance)
                changing._after()

        return Engine(settings)


def source(case: Case) -> Path:
    return case.mapping.parent / f"snapshot_dt={JANUARY}"


def keep() -> None:
    pass


def refused(case: Case) -> str:
    with pytest.raises(SourceChangedError) as caught:
        case.run()
    assert caught.value.exit_code == 3
    assert not case.catalog.exists()
    (manifest,) = case.manifests()
    assert manifest.status == "failed"
    assert notes_of(caught.value).startswith(
        "Wait until the snapshot is completely loaded, then run again: bucketwheel run "
    )
    return str(caught.value)


@pytest.mark.parametrize("change", CHANGES[:3])
def test_run_fails_when_file_changes_before_it_is_read(
    case: Case, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    directory = source(case)
    monkeypatch.setattr(plugins, "engine", ChangedSource(lambda: change(directory), keep))
    verb = "deleted" if change is delete_file else "replaced or rewritten"
    assert refused(case) == f"{directory / FIRST}: was {verb} during the run; nothing was published"


@pytest.mark.parametrize("change", CHANGES)
def test_run_fails_when_snapshot_changes_after_it_was_read(
    case: Case, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    directory = source(case)
    monkeypatch.setattr(plugins, "engine", ChangedSource(keep, lambda: change(directory)))
    message = refused(case)
    assert message.startswith(f"{directory}: the snapshot changed during the run, nothing was published: {directory}")
    assert ("part-2.parquet was added" if change is add_file else f"{FIRST} was ") in message


def test_next_run_after_a_changed_source_publishes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = source(case)
    with monkeypatch.context() as patched:
        patched.setattr(plugins, "engine", ChangedSource(keep, lambda: replace_file(directory)))
        refused(case)
    with pytest.raises(ResumeError, match=f"{FIRST} was replaced by a file of the same size and time"):
        case.run(resume="last")
    outcome = case.run()
    assert outcome.manifest.status == "finished"
    assert all(dates == {JANUARY} for dates in case.shown().values())


def test_manifest_without_versions_loads_and_keeps_the_fingerprint(case: Case) -> None:
    run = case.run(["discover", "split", "size"]).manifest
    assert all(file.version for file in run.discover.files)
    path = case.manifest_file(run.run_id)
    content = json.loads(path.read_text())
    for file in content["stages"]["discover"]["result"]["files"]:
        del file["version"]
    path.write_text(json.dumps(content))
    old = DiscoverResult.model_validate(content["stages"]["discover"]["result"])
    assert {file.version for file in old.files} == {""}
    outcome = case.run(resume="last", configured=("discover", "split", "size", "bucket", "verify"))
    assert outcome.manifest.run_id == run.run_id
    assert outcome.manifest.snapshot_dt == JANUARY
    assert outcome.manifest.fingerprint == run.fingerprint


def test_copied_source_does_not_hinder_a_run_that_has_read_it(case: Case) -> None:
    run = case.run(["discover", "split", "size", "bucket"]).manifest
    replace_file(source(case))
    assert case.run(["verify"]).manifest.run_id == run.run_id
