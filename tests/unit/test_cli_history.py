"""Commands on tables and existing runs: tables, runs, show, verify, rollback, expire, report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bucketwheel.sample import Sample
from project import NARROW, WIDE, Project


@pytest.fixture
def two(published: Project) -> tuple[Project, str, str]:
    """A project with runs of two months; the later one is published."""
    published.run()
    older, newer = published.run_ids()
    return published, older, newer


def test_runs_lists_oldest_first(two: tuple[Project, str, str]) -> None:
    project, older, newer = two
    result = project.cli("runs")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["run", "dataset", "status", "snapshot", "live", "stages", "rows", "written"]
    stages = "discover,split,size,bucket,verify,register,ctas"
    assert [row[:7] for row in rows[2:]] == [
        [older, WIDE, "finished", "2025-09-22", "-", stages, "900"],
        [newer, WIDE, "finished", "2025-10-22", "3/3", stages, "1,200"],
    ]
    runs = json.loads(project.cli("runs", WIDE, "--output", "json").stdout)
    assert [(manifest["run_id"], manifest["live"]) for manifest in runs] == [
        (older, {"count": 0, "total": 3, "kind": "final"}),
        (newer, {"count": 3, "total": 3, "kind": "final"}),
    ]
    assert project.cli("runs", NARROW).stdout == "no runs\n"


def test_runs_missing_target_is_empty(project: Project) -> None:
    result = project.cli("runs")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "no runs\n", "")
    assert json.loads(project.cli("runs", "--output", "json").stdout) == []


def test_tables_shows_run_and_snapshot_of_each_table(two: tuple[Project, str, str]) -> None:
    project, older, newer = two
    whole = project.cli("tables", WIDE)
    assert (whole.exit_code, whole.stderr) == (0, "")
    lines = whole.stdout.splitlines()
    assert lines[0] == f"{WIDE}: 3 tables, snapshot 2025-10-22"
    assert lines[2].split() == ["table", "snapshot", "rows", "bytes", "files", "published", "run"]
    cells = [re.split(r"  +", line) for line in lines[4:]]
    assert [(row[0], row[1], row[2], row[4], row[-1]) for row in cells] == [
        (name, "2025-10-22", "1,200", "4", newer) for name in ("ibe_01", "ibe_02", "ibe_04")
    ]
    project.run("--snapshot-dt", "2025-10-22", "--tables-filter", "ibe_02", "--set", "buckets.count=2")
    other = project.run_ids()[-1]
    mixed = project.cli("tables", WIDE).stdout.splitlines()
    assert mixed[0] == f"{WIDE}: 3 tables of 2 runs, snapshot 2025-10-22"
    rows = [line.split() for line in mixed[4:]]
    assert [row[-2:] for row in rows[1:2]] == [["run", other]]
    assert [row[-1] for row in rows] == [newer, other, newer]
    project.cli("rollback", older)
    everything = project.cli("tables").stdout
    assert everything.startswith(f"{NARROW}: no table is published\n\n{WIDE}: 3 tables, snapshot 2025-09-22\n")


def test_tables_with_mix_of_snapshots_warns_and_exits_0(published: Project) -> None:
    (older,) = published.run_ids()
    published.run("--tables-filter", "ibe_02")
    _, newer = published.run_ids()
    result = published.cli("tables", WIDE)
    mix = (
        f"the tables of {WIDE} show 2 snapshots: 2025-10-22: ibe_02; 2025-09-22: ibe_01, ibe_04; "
        "metadata/snapshot_dt.txt names the oldest"
    )
    assert (result.exit_code, result.stderr) == (0, f"warning: {mix}\n")
    assert result.stdout.startswith(f"{WIDE}: 3 tables, snapshots 2025-09-22, 2025-10-22\n")
    (document,) = json.loads(published.cli("tables", WIDE, "--output", "json").stdout)
    assert (document["snapshot_dt"], document["warnings"], document["problems"]) == ("2025-09-22", [mix], [])
    final = [table for table in document["tables"] if table["kind"] == "final"]
    assert [(table["table"], table["run_id"], table["differs"]) for table in final] == [
        ("ibe_01", older, None),
        ("ibe_02", newer, "snapshot"),
        ("ibe_04", older, None),
    ]


def test_tables_without_catalog_file_fails(two: tuple[Project, str, str]) -> None:
    project, _, _ = two
    project.catalog.unlink()
    result = project.cli("tables", WIDE)
    assert (result.exit_code, result.stdout) == (1, f"{WIDE}: no table is published\n")
    assert f"error: {WIDE}: the catalog ({project.catalog}, which does not exist) has no table" in result.stderr
    assert "rebuild the catalog: bucketwheel catalog rebuild" in result.stderr


def test_tables_of_unknown_dataset_exits_2_with_hint(project: Project) -> None:
    result = project.cli("tables", "infobase_atributes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: no dataset 'infobase_atributes'; did you mean '{WIDE}'? known: {NARROW}, {WIDE}\n"
    )


def test_show_and_report_say_whether_tables_are_live(two: tuple[Project, str, str], tmp_path: Path) -> None:
    project, older, newer = two
    pages = {}
    for run_id, text in ((older, "was published, no longer live"), (newer, "live: 3 of 3 tables")):
        assert text in project.cli("show", run_id).stdout.splitlines()
        path = tmp_path / f"{run_id}.html"
        assert project.cli("report", run_id, "--to", str(path)).exit_code == 0
        pages[run_id] = path.read_text(encoding="utf-8")
        assert f"<dt>Tables</dt><dd>{text}</dd>" in pages[run_id]


def test_runs_of_filtered_run_shows_filter_and_part(published: Project) -> None:
    published.run("--tables-filter", "ibe_02,ibe_04")
    lines = published.cli("runs", WIDE).stdout.splitlines()
    assert lines[0].split() == [
        "run",
        "dataset",
        "status",
        "snapshot",
        "live",
        "filter",
        "stages",
        "rows",
        "written",
    ]
    older, newer = (line.split() for line in lines[2:])
    assert older[4] == "1/3"
    assert newer[4:6] == ["2/2", "ibe_02,ibe_04"]


def test_runs_and_show_work_without_catalog(published: Project) -> None:
    (run_id,) = published.run_ids()
    published.catalog.write_text("no database")
    for arguments in (("runs",), ("show", run_id)):
        result = published.cli(*arguments)
        assert result.exit_code == 0
        assert run_id in result.stdout
        assert "warning: cannot tell which tables are live, because the catalog cannot be read: " in result.stderr
    assert json.loads(published.cli("runs", "--output", "json").stdout)[0]["live"] is None
    assert published.cli("tables").exit_code == 1


def test_runs_of_unknown_dataset_exits_2_with_hint(project: Project) -> None:
    result = project.cli("runs", "infobase_atributes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"error: no dataset 'infobase_atributes'; did you mean '{WIDE}'? known: " in result.stderr


@pytest.mark.parametrize("name", ["newer", "last"])
def test_show_prints_finished_run(two: tuple[Project, str, str], name: str) -> None:
    project, _, newer = two
    asked = newer if name == "newer" else name
    result = project.cli("show", asked)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{WIDE}: run {newer} finished\n")
    assert "warning: 3 source columns are not in the mapping" in result.stdout
    manifest = json.loads(project.cli("show", asked, "--output", "json").stdout)
    assert (manifest["run_id"], manifest["snapshot_dt"]) == (newer, "2025-10-22")
    assert "failed" not in result.stdout


def test_show_prints_reason_of_failure(project: Project, dirty: Callable[..., Sample]) -> None:
    project.use(dirty("null_keys"))
    assert project.cli("run", WIDE).exit_code == 3
    (failed,) = project.run_ids()
    result = project.cli("show", failed)
    assert result.exit_code == 0
    assert re.search(r"^failed: \d+ rows? ha(s|ve) a NULL key; nothing was published", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["show", "verify", "rollback", "report"])
def test_show_unknown_run_lists_latest_runs(two: tuple[Project, str, str], command: str) -> None:
    project, older, newer = two
    result = project.cli(command, "2020-01-01-20200101T000000Z-abcdef")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: no run '2020-01-01-20200101T000000Z-abcdef' below " in result.stderr
    assert f"latest: {newer}, {older}" in result.stderr
    typo = project.cli(command, f"{newer[:-1]}z")
    assert (typo.exit_code, typo.stdout) == (2, "")
    assert f"did you mean '{newer}'? latest: " in typo.stderr


def test_verify_passes_intact_run(two: tuple[Project, str, str]) -> None:
    project, older, _ = two
    result = project.cli("verify", older)
    assert result.exit_code == 0
    assert (
        result.stdout == f"{older}: 900 rows in each of 3 tables, 12 files: rows, types and keys match the manifest\n"
    )
    assert re.fullmatch(rf"{WIDE}: verify \d+\.\d s\n", result.stderr)
    verification = json.loads(project.cli("verify", older, "--output", "json").stdout)
    assert [(table["name"], table["rows"]) for table in verification["tables"]] == [
        *(("ibe_01", 900), ("ibe_02", 900), ("ibe_04", 900))
    ]


def test_verify_changed_file_fails(two: tuple[Project, str, str]) -> None:
    project, older, _ = two
    path = sorted((project.target / WIDE / "ibe_02" / older).glob("*.parquet"))[0]
    path.write_bytes(path.read_bytes()[:-1])
    result = project.cli("verify", older)
    assert (result.exit_code, result.stdout) == (3, "")
    assert str(path) in result.stderr


def test_rollback_to_earlier_and_later_run(two: tuple[Project, str, str]) -> None:
    project, older, newer = two
    now = project.content()
    result = project.cli("rollback", older)
    assert (result.exit_code, f"run {newer} is marked as withdrawn" in result.stderr) == (0, True)
    tables = [f"{prefix}_{table}" for prefix in ("ext", "bucketed") for table in ("ibe_01", "ibe_02", "ibe_04")]
    head, *facts = result.stdout.splitlines()
    assert head == f"{WIDE}: run {older} is live again"
    assert [fact.split()[0] for fact in facts] == ["tables", "rows", "catalog", "query"]
    assert facts[0].startswith("tables   3 in 12 files, ")
    assert facts[1] == "rows     900"
    assert set(project.published().values()) == {900}
    assert project.snapshot_dt() == "2025-09-22"
    assert project.cli("rollback", newer, "--force", "--verbose").stdout.splitlines()[5:] == [
        f"published {name} -> {project.target}/{WIDE}/{name.partition('_')[2]}/{newer}" for name in tables
    ]
    rolled_back = json.loads(project.cli("rollback", newer, "--force", "--output", "json").stdout)
    assert [table["name"] for table in rolled_back["tables"]] == tables
    assert project.content() == now


def test_expire_deletes_unreferenced_runs(two: tuple[Project, str, str]) -> None:
    project, older, newer = two
    size = sum(path.stat().st_size for path in project.target.glob(f"{WIDE}/*/{older}/*"))
    assert project.cli("expire", "--yes", "--keep", "2").stdout == "nothing to delete\n"
    result = project.cli("expire", "--yes", "--keep", "1", "--output", "json")
    assert json.loads(result.stdout) == [{"dataset": WIDE, "run_id": older, "bytes": size, "has_manifest": True}]
    assert project.run_ids() == [newer]
    assert not list(project.target.glob(f"{WIDE}/*/{older}"))
    assert set(project.published().values()) == {1200}
    refused = project.cli("expire", "--keep", "0")
    assert (refused.exit_code, refused.stderr) == (2, "error: --keep 0: keep at least 1 run\n")


def test_expire_reports_kept_runs_as_json_lines(two: tuple[Project, str, str]) -> None:
    project = two[0]
    words = ("expire", "--dry-run", "--keep", "1", "--set", "expire.min_age_hours=24")
    kept = project.cli(*words, "--output", "json")
    assert json.loads(kept.stdout) == []
    assert [json.loads(line)["message"].startswith("kept: ") for line in kept.stderr.splitlines()] == [True]
    assert project.cli(*words).stderr.startswith("kept: ")


def test_expire_prints_deleted_runs(two: tuple[Project, str, str], earlier: Sample) -> None:
    project, older, _ = two
    result = project.cli("expire", WIDE, "--yes", "--keep", "1")
    assert result.stdout.startswith(f"deleted {older}, ")
    assert result.stdout.endswith(" kB\n")


def test_report_compares_with_published_run_until_it_is_gone(two: tuple[Project, str, str], tmp_path: Path) -> None:
    project, older, newer = two
    path = tmp_path / "page.html"

    def changes() -> list[str]:
        assert project.cli("report", newer, "--to", str(path)).exit_code == 0
        return re.findall(r'<span class="change">([^<]*)<', path.read_text(encoding="utf-8"))

    rows = "+33.3\u00a0%, 900 before"
    assert changes()[:2] == [rows, "unchanged"]
    (manifest,) = project.root.rglob(f"{older}/manifest.json")
    manifest.write_text("{", encoding="utf-8")
    assert changes() == [rows]
    manifest.unlink()
    assert changes() == [rows]


def test_report_writes_page_and_prints_path(two: tuple[Project, str, str], tmp_path: Path) -> None:
    project, _, newer = two
    result = project.cli("report", newer)
    page = Path(f"bucketwheel-{newer}.html")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{page}\n", "")
    assert newer in page.read_text(encoding="utf-8")
    assert project.cli("report", "last").stdout == f"{page}\n"
    assert not Path("bucketwheel-last.html").exists()
    other = tmp_path / "elsewhere.html"
    assert project.cli("report", newer, "--to", str(other)).stdout == f"{other}\n"
    assert other.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    refused = project.cli("report", newer, "--to", str(tmp_path / "no" / "where.html"))
    assert (refused.exit_code, refused.stderr) == (
        1,
        f"error: {tmp_path}/no/where.html: cannot write: it does not exist\n",
    )


def test_expire_asks_or_needs_yes(two: tuple[Project, str, str]) -> None:
    project, older, _ = two
    refused = project.cli("expire", "--keep", "1")
    assert refused.exit_code == 2
    assert "expire deletes 1 run; add --yes, or look with --dry-run" in refused.stderr
    listed = project.cli("expire", "--keep", "1", "--dry-run")
    assert (listed.exit_code, older in listed.stdout, "total" in listed.stdout) == (0, True, True)
    assert older in project.run_ids()


def test_rollback_previous_marks_run_until_unmarked(two: tuple[Project, str, str]) -> None:
    project, older, newer = two
    result = project.cli("rollback", "--previous", WIDE, "--reason", "wrong ages")
    assert result.exit_code == 0, result.stderr
    assert f"run {newer} is marked as withdrawn" in result.stderr
    assert older in result.stdout
    refused = project.cli("run", WIDE)
    assert refused.exit_code == 3
    assert "wrong ages; the snapshot and the mapping have not changed since, so nothing was run" in refused.stderr
    assert "To resume" not in refused.stderr
    assert project.cli("unmark", newer).stdout.endswith(
        "wrong ages; the mark is removed, and the next run of its snapshot publishes it, also one of a schedule\n"
    )
    assert project.cli("run", WIDE).exit_code == 0
    for words in ([], [older, "--previous", WIDE]):
        wrong = project.cli("rollback", *words)
        assert (wrong.exit_code, "--previous DATASET" in wrong.stderr) == (2, True)
