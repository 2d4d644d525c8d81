"""Run metadata: listing, damaged manifests and run ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bucketwheel import api
from bucketwheel.errors import BucketwheelError, SelectionError, StorageError
from bucketwheel.runs.manifest import Manifest, StageRecord
from bucketwheel.runs.run_id import RUN_ID
from bucketwheel.runs.store import RunStore
from bucketwheel.settings.loading import Configuration
from runs_support import DATASET, JANUARY, Case


@pytest.fixture
def finished(case: Case) -> tuple[Case, Manifest]:
    return case, case.run(["discover", "split", "size"]).manifest


def test_run_id_starts_with_snapshot_date(finished: tuple[Case, Manifest]) -> None:
    _, manifest = finished
    assert RUN_ID.fullmatch(manifest.run_id)
    assert manifest.run_id.startswith(f"{JANUARY}-")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "is not a manifest, it may be damaged"),
        ("{", "is not a manifest, it may be damaged"),
        ("[]", "is not a manifest, it may be damaged"),
        ("{}", r"is not a manifest \(run_id: Field required\)"),
        ('{"schema_version": 2, "run_id": 1}', r"schema_version 2, this one reads 1\); use that version"),
    ],
)
def test_unreadable_manifest_error_names_file(finished: tuple[Case, Manifest], content: str, text: str) -> None:
    case, manifest = finished
    path = case.manifest_file(manifest.run_id)
    path.write_text(content)
    for action in (case.manifests, lambda: case.store().find(manifest.run_id)):
        with pytest.raises(StorageError, match=rf"{path}: .*{text}"):
            action()


def test_unreadable_manifest_does_not_hide_other_runs(finished: tuple[Case, Manifest]) -> None:
    case, first = finished
    case.run(["discover"], buckets__count=8)
    last = case.run(["discover"], buckets__count=16).manifest
    damaged = case.manifest_file(case.store().ids(DATASET)[1])
    damaged.write_text("")
    problems: list[str] = []
    assert case.store().manifests(DATASET, problems.append) == [first, last]
    config = Configuration(case.settings(), "local", {})
    assert api.runs(config, unreadable=problems.append) == [first, last]
    assert [text.partition(": ")[0] for text in problems] == [str(damaged)] * 2
    with pytest.raises(StorageError, match=str(damaged)):
        api.runs(config)


def test_stages_have_peak_memory_of_the_process(finished: tuple[Case, Manifest]) -> None:
    _, manifest = finished
    peaks = [record.peak_memory_bytes for record in manifest.stages.values()]
    # Python and pyarrow alone take more than 30 MB.
    assert all(peak is not None and peak > 30_000_000 for peak in peaks)


def test_manifest_in_directory_of_another_run_is_refused(finished: tuple[Case, Manifest]) -> None:
    case, manifest = finished
    directory = case.manifest_file(manifest.run_id).parent
    copy = directory.with_name(manifest.run_id[:-1] + ("0" if manifest.run_id[-1] != "0" else "1"))
    copy.mkdir()
    (copy / "manifest.json").write_bytes((directory / "manifest.json").read_bytes())
    with pytest.raises(StorageError, match=f"is the manifest of {DATASET} {manifest.run_id}"):
        case.manifests()


def test_invalid_result_error_names_run_and_stage(
    finished: tuple[Case, Manifest],
) -> None:
    case, manifest = finished
    path = case.manifest_file(manifest.run_id)
    content = json.loads(path.read_text())
    content["stages"]["discover"]["result"]["rows"] = "many"
    path.write_text(json.dumps(content))
    with pytest.raises(BucketwheelError, match=f"run {manifest.run_id}: .*'discover'"):
        _ = case.manifests()[0].discover


def test_missing_result_error_has_command_that_creates_it(finished: tuple[Case, Manifest]) -> None:
    _, manifest = finished
    with pytest.raises(
        SelectionError, match=f"'verify' has not finished.*--stages verify --resume {manifest.run_id}"
    ):
        _ = manifest.verify


def test_result_is_validated_once(finished: tuple[Case, Manifest]) -> None:
    case, manifest = finished
    (loaded,) = case.manifests()
    assert loaded.discover is loaded.discover
    assert loaded.discover == manifest.discover
    assert loaded == case.manifests()[0]
    assert loaded.model_dump_json() == case.manifests()[0].model_dump_json()


def test_replaced_result_is_not_read_from_the_cache(finished: tuple[Case, Manifest]) -> None:
    _, manifest = finished
    record = manifest.stages["discover"]
    more = {**record.result, "rows": manifest.discover.rows + 1}
    changed = StageRecord(started=record.started, seconds=1, result=more)
    assert manifest.with_stage("discover", changed).discover.rows == manifest.discover.rows + 1
    copied = record.model_copy(update={"result": more})
    assert manifest.with_stage("discover", copied).discover.rows == manifest.discover.rows + 1
    assert manifest.with_stage("discover", record).discover is manifest.discover


def test_directories_without_manifest_are_not_listed(finished: tuple[Case, Manifest]) -> None:
    case, manifest = finished
    runs = case.manifest_file(manifest.run_id).parent.parent
    for name in ("backup", f"{manifest.run_id}-copy", "2025-01-31-20250101T000000Z-aaaaaa"):
        (runs / name).mkdir()
    (runs / "2025-01-31-20250101T000000Z-bbbbbb").write_text("a file")
    assert case.manifests() == [manifest]
    assert case.store().all_run_ids(DATASET) == ["2025-01-31-20250101T000000Z-aaaaaa", manifest.run_id]


def test_run_id_is_later_than_id_in_the_future(finished: tuple[Case, Manifest]) -> None:
    case, manifest = finished
    runs = case.manifest_file(manifest.run_id).parent.parent
    (runs / "2025-01-31-20991231T235959Z-ffffff").mkdir()
    second = case.run(["discover"], buckets__count=8).manifest.run_id
    assert second.startswith("2025-01-31-21000101T000000Z-")
    assert case.store().ids(DATASET)[-1] == second


def test_last_is_newest_run(finished: tuple[Case, Manifest]) -> None:
    case, _ = finished
    newest = case.run(["discover"], buckets__count=8).manifest
    assert case.store().find("last") == newest
    assert api.manifest(Configuration(case.settings(), "local", {}), "last") == newest


def test_find_without_runs_fails(tmp_path: Path) -> None:
    store: RunStore = Case(tmp_path).store()
    assert store.datasets() == []
    with pytest.raises(SelectionError, match=r"no run 'last' below .*; latest: none"):
        store.find("last")
