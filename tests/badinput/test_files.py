"""Truncated, foreign and corrupt source files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bucketwheel.sample import Sample
from project import WIDE, Project, Result

Dirty = Callable[..., Sample]
Refused = Callable[..., Result]


@pytest.mark.parametrize(("defect", "count", "name"), [("truncated_file", 3, "00002"), ("text_file", 4, "00003")])
def test_file_without_footer_is_named(
    published: Project, dirty: Dirty, refused: Refused, defect: str, count: int, name: str
) -> None:
    sample = dirty(defect)
    published.use(sample)
    result = refused(published, 3)
    first, second, *rest = result.stderr.splitlines()
    assert first == f"error: 1 of {count} files without a readable Parquet footer:"
    assert second.startswith(f"{sample.snapshot}/part-{name}.parquet: ")
    again = f"Replace the files, then run again: bucketwheel run {WIDE} --conf {published.conf}"
    assert rest == ["Write them again, or take another snapshot with --snapshot-dt", again]


def test_unreadable_files_are_all_listed(published: Project, dirty: Dirty, refused: Refused) -> None:
    sample = dirty("text_file")
    published.use(sample)
    (sample.snapshot / "part-00000.parquet").write_bytes(b"")
    (sample.snapshot / "part-00001.parquet").write_bytes(b"PAR1 and nothing more PAR1")
    result = refused(published, 3)
    assert "error: 3 of 4 files without a readable Parquet footer:" in result.stderr
    named = [line.partition(":")[0] for line in result.stderr.splitlines() if line.startswith(str(sample.snapshot))]
    assert [Path(name).name for name in named] == [f"part-0000{number}.parquet" for number in (0, 1, 3)]


def corrupt_chunks(path: Path) -> list[tuple[int, str]]:
    errors = []
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            for name in file.schema_arrow.names:
                try:
                    file.read_row_group(group, columns=[name])
                except OSError:
                    errors.append((group, name))
    return errors


def test_corrupt_page_is_named_with_file_row_group_and_column(
    published: Project, dirty: Dirty, refused: Refused
) -> None:
    sample = dirty("corrupt_page")
    published.use(sample)
    path = sample.snapshot / "part-00002.parquet"
    ((group, column),) = corrupt_chunks(path)
    result = refused(published, 3)
    assert f"error: {path}: row group {group}, column {column!r} cannot be read: " in result.stderr
    assert "select the previous snapshot with --snapshot-dt" in result.stderr
    assert "Replace the files, then run again: bucketwheel run" in result.stderr
    assert "--resume" not in result.stderr


def test_corrupt_page_leaves_no_visible_file(published: Project, dirty: Dirty, refused: Refused) -> None:
    published.use(dirty("corrupt_page"))
    (good,) = published.run_ids()
    refused(published, 3)
    (bad,) = set(published.run_ids()) - {good}
    written = {path.parent.name for path in published.target.rglob("*.parquet")}
    assert written == {good}, f"files of {bad} lie in a table"


def test_corrupt_page_of_unmapped_column_is_ignored(project: Project, dirty: Dirty) -> None:
    sample = dirty("corrupt_page")
    lines = sample.mapping.read_text().splitlines(keepends=True)
    sample.mapping.write_text("".join(line for line in lines if "IBE8688_Age" not in line))
    project.use(sample)
    project.run()
    assert set(project.published().values()) == {1200}
