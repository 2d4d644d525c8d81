"""What a writer that is killed leaves beside the file that it meant goes with the next one; nothing else does."""

from __future__ import annotations

from pathlib import Path

from bucketwheel.pipeline.expire import expire
from bucketwheel.pipeline.rollback import rollback
from runs_support import DATASET, Case, reports, warnings_in

LEFT = f"{'0123456789abcdef' * 2}.tmp"


def test_the_next_run_deletes_what_was_left_beside_manifest_and_note(case: Case) -> None:
    run_id = case.run().manifest.run_id
    books = case.manifest_file(run_id).parent
    left = [
        books / f"manifest.json.{LEFT}",
        books / f"summary.json.{LEFT}",
        case.note.parent / f"{case.note.name}.{LEFT}",
    ]
    foreign = [books / "mine.tmp", case.note.parent / "notes.0123.tmp", case.note.parent / LEFT[1:]]
    for path in (*left, *foreign):
        path.write_text("x")
    case.run(resume="last")
    assert [path for path in left if path.exists()] == []
    assert [path for path in foreign if not path.exists()] == []


def test_going_back_deletes_what_was_left_beside_the_note(case: Case) -> None:
    run_id = case.run().manifest.run_id
    left = case.note.parent / f"{case.note.name}.{LEFT}"
    left.write_text("x")
    rollback(case.settings(), run_id)
    assert not left.exists()
    assert case.note.exists()


def test_datasets_that_the_configuration_lacks_are_named_and_left_alone(case: Case) -> None:
    run_id = case.run().manifest.run_id
    books = case.target / "_bucketwheel" / "former" / "runs"
    books.mkdir(parents=True)
    found, report = reports()
    assert expire(case.settings(), keep=1, report=report) == []
    assert warnings_in(found) == "left alone, as no dataset of the configuration has the name: former"
    assert case.store().ids(DATASET) == [run_id]
    assert Path(books).exists()
    found, report = reports()
    assert expire(case.settings(), keep=1, datasets=[DATASET], report=report) == []
    assert warnings_in(found) == ""
