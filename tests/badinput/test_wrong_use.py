"""Wrong names and values, and nested source and target paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from project import NARROW, WIDE, Project, Result

Refused = Callable[..., Result]


@pytest.mark.parametrize("option", ["--tables-filter", "--TABLES_FILTER"])
def test_table_filter_with_typo_error_suggests_name(published: Project, refused: Refused, option: str) -> None:
    result = refused(published, 2, option, "ibe_01,ibe_O2")
    assert "error: table filter: no table 'ibe_O2'; did you mean 'ibe_02'? known: ibe_01, ibe_02, ibe_04" in (
        result.stderr
    )


def test_table_filter_with_table_of_the_published_run_only_is_refused(published: Project, refused: Refused) -> None:
    mapping = Path(published.settings["datasets"][WIDE]["mapping"])
    copy = published.root / "mapping.csv"
    copy.write_text("".join(line for line in mapping.read_text().splitlines(keepends=True) if "IBE_04" not in line))
    result = refused(published, 2, "--tables-filter", "IBE_04", "--set", f"datasets.{WIDE}.mapping={copy}")
    error, advice = result.stderr.splitlines()[-2:]
    assert error == (
        "error: table filter: table 'IBE_04' is published, but no longer in the mapping; add its columns to the "
        "mapping, or remove it from --tables-filter; known: ibe_01, ibe_02"
    )
    assert advice.startswith(f"Fix the mapping or --tables-filter, then run again: bucketwheel run {WIDE} ")


def test_table_filter_accepts_names_of_the_mapping(published: Project) -> None:
    published.run("--tables-filter", "IBE_01, IBE_04")
    tables = published.published()
    assert {name for name, rows in tables.items() if rows == 1200} == {
        *("bucketed_ibe_01", "bucketed_ibe_04", "ext_ibe_01", "ext_ibe_04")
    }
    assert tables["bucketed_ibe_02"] == 900


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--stages", "discover,splt"), "no stage 'splt'; did you mean 'split'? stages: discover, split, size, "),
        (("--engine", "arow"), "no engine is called 'arow'; did you mean 'arrow'? known: "),
        (("--set", "catalog.kind=duckdbb"), "no catalog is called 'duckdbb'; did you mean 'duckdb'? known: "),
        (("--resume", "2025-10-22"), "no run '2025-10-22' below "),
        (("--env", "prd"), "conf/prd.yaml does not exist; known: local"),
        (("--conf", "nowhere"), "--conf nowhere: no such directory"),
        (("--conf", "s3://b/conf"), "--conf s3://b/conf: not a local directory; download it first, for example: aws"),
        (("--conf", "file:///x"), "--conf file:///x: not a local directory; name its path, such as --conf conf"),
        (("--set", "buckets.count"), "'buckets.count' is not of the form KEY=VALUE"),
        (("--output", "xml"), "'xml' is not one of 'text', 'json'"),
        (("--tables-fitler", "ibe_01"), "No such option"),
    ],
)
def test_unknown_names_are_refused(
    published: Project, refused: Refused, arguments: tuple[str, ...], message: str
) -> None:
    result = refused(published, 2, *arguments)
    assert message in result.stderr


def test_dataset_with_typo_error_suggests_name(published: Project, refused: Refused) -> None:
    result = refused(published, 2, dataset="infobase_atributes")
    assert result.stderr == (
        f"error: no dataset 'infobase_atributes'; did you mean '{WIDE}'? configured: {NARROW}, {WIDE}\n"
        f"To start a new run: bucketwheel run {WIDE} --conf {published.conf}\n"
    )


def test_wrong_setting_and_type_are_reported_together(published: Project, refused: Refused) -> None:
    published.set(buckts={"count": 3}, quality={"null_keys": "ignore"})
    result = refused(published, 2, "--set", "buckets.sort=maybe")
    base = published.conf / "base.yaml"
    first, second, third = result.stderr.splitlines()
    assert first == "error: buckets.sort (--set): should be a valid boolean, not 'maybe'"
    assert second == f"quality.null_keys ({base}): should be 'error', 'warn' or 'allow', not 'ignore'"
    assert third.startswith(
        f"buckts ({base}): unknown setting; did you mean 'buckets'? (known: athena, aws, buckets, "
    )


def test_target_inside_source_is_refused(published: Project, refused: Refused) -> None:
    source = published.settings["datasets"][WIDE]["source"]
    result = refused(published, 2, "--set", f"target={source}/made")
    assert result.stderr.startswith(
        f"error: the target is inside the source: target {source}/made, source {source}; choose another target\n"
    )
    assert not (Path(source) / "made").exists()


def test_target_equal_to_source_is_refused(published: Project, refused: Refused) -> None:
    source = published.settings["datasets"][WIDE]["source"]
    assert "the target is inside the source" in refused(published, 2, "--set", f"target={source}").stderr


def test_source_inside_target_is_refused(published: Project, refused: Refused) -> None:
    source = published.target / WIDE / "raw_input"
    result = refused(published, 2, "--set", f"datasets.{WIDE}.source={source}")
    assert result.stderr.startswith(
        f"error: the source is inside the output of a run: target {published.target}, source {source}; choose "
        "another target\n"
    )


def test_nested_paths_are_detected_in_any_spelling(published: Project, refused: Refused, tmp_path: Path) -> None:
    source = published.settings["datasets"][WIDE]["source"]
    link = tmp_path / "link"
    link.symlink_to(source)
    for target in (f"{link}/made", f"{source}/x/../made", f"{tmp_path}/x/../link/made", f"file://{source}/made"):
        assert "the target is inside the source" in refused(published, 2, "--set", f"target={target}").stderr


def test_neighbor_with_common_prefix_is_not_nested(project: Project) -> None:
    source = project.settings["datasets"][WIDE]["source"]
    result = project.cli("plan", WIDE, "--set", f"target={source}_made")
    assert result.exit_code == 0, result.stderr
