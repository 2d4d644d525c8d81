from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from bucketwheel import api
from bucketwheel.cli import main
from bucketwheel.errors import BucketwheelError
from bucketwheel.pipeline.propose import mapping_text, propose_tables

COLUMNS = {"person_id": [1, 2, 3], "age": [1, 2, 3], "finance_1": [1, 2, 3], "finance_2": ["a", "b", "c"]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("BUCKETWHEEL_CONF", "BUCKETWHEEL_ENV"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def put(directory: str, **more: Any) -> None:
    Path(directory).mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**COLUMNS, **more}), Path(directory, "a.parquet"))


def run(*words: str) -> int:
    try:
        main(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def content(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def dataset(directory: str = ".") -> dict[str, Any]:
    ((_, values),) = yaml.safe_load(Path(directory, "conf/base.yaml").read_text())["datasets"].items()
    return dict(values)


def test_init_writes_configuration_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    put("people/snapshot_dt=2026-01-31")
    put("people/snapshot_dt=2025-12-31")
    assert run("init", "--source", "people", "--key", "Person_ID") == 0
    assert capsys.readouterr().out == (
        "people: newest snapshot 2026-01-31 of people (directories snapshot_dt=YYYY-MM-DD), key person_id\n"
        "2 tables: people (1 column), finance (2 columns)\n"
        "readers: duckdb; names of tables: bucketed_* (hive_v1)\n"
        "wrote mapping.csv\n"
        "wrote conf/base.yaml\n"
        "Edit mapping.csv to move columns to other tables. Then:\n"
        "  bucketwheel plan people\n"
        "  bucketwheel run people\n"
    )
    assert yaml.safe_load(Path("conf/base.yaml").read_text()) == {
        "readers": ["duckdb"],
        "datasets": {"people": {"source": "people", "key": "person_id", "mapping": "mapping.csv"}},
    }
    assert Path("mapping.csv").read_text() == "table,column\npeople,age\nfinance,finance_1\nfinance,finance_2\n"
    assert run("plan", "people") == 0
    assert run("run", "people") == 0
    assert "people: run 2026-01-31-" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "readers", "tables"),
    [
        (("--readers", "athena, clean_rooms"), ["athena", "clean_rooms"], "bucketed_* (hive_v1) and spark_* (spark)"),
        (("--readers", "emr"), ["emr"], "bucketed_* (spark)"),
        (("--readers", "trino", "--set", "catalog.final_prefix=t_"), ["trino"], "t_* (hive_v1)"),
        (("--set", "catalog.kind=glue", "--set", "catalog.path=null"), ["athena"], "bucketed_* (hive_v1)"),
        # The configuration decides the layout itself.
        (("--set", "buckets.hash=spark"), None, "bucketed_* (spark)"),
        (("--readers", ""), None, "bucketed_* (hive_v1)"),
    ],
)
def test_init_takes_layouts_from_readers(
    capsys: pytest.CaptureFixture[str], words: Sequence[str], readers: list[str] | None, tables: str
) -> None:
    put("people/snapshot_dt=2026-01-31")
    assert run("init", "--key", "person_id", *words) == 0
    names = ", ".join(readers or ["none named"])
    assert f"\nreaders: {names}; names of tables: {tables}\n" in capsys.readouterr().out
    assert yaml.safe_load(Path("conf/base.yaml").read_text()).get("readers") == readers


def test_init_in_other_directory_keeps_paths_right(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    put("raw/dt=20260131")
    Path("raw/dt=20260131/_SUCCESS").touch()
    given = ("--set", "buckets.count=4", "--set", "catalog.database=analytics", "--set", "threads=auto")
    assert run("init", "new project", "--source", "raw", "--key", "person_id", "--dataset", "people", *given) == 0
    assert "Then:\n  cd 'new project'\n  bucketwheel plan people\n" in capsys.readouterr().out
    settings = yaml.safe_load(Path("new project/conf/base.yaml").read_text())
    assert settings == {
        "buckets": {"count": 4},
        "catalog": {"database": "analytics"},
        "readers": ["duckdb"],
        "datasets": {
            "people": {
                "source": "../raw",
                "key": "person_id",
                "mapping": "mapping.csv",
                "partition": "dt=YYYYMMDD",
                "complete_marker": "_SUCCESS",
            }
        },
    }
    monkeypatch.chdir("new project")
    assert run("run") == 0


def test_init_without_source_takes_the_only_one() -> None:
    put("project/customers/year=2026/month=1")
    assert run("init", "project", "--key", "person_id") == 0
    assert dataset("project")["source"] == "customers"
    assert dataset("project")["partition"] == "year=YYYY/month=MM"


def test_init_of_one_flat_directory_uses_partition_none() -> None:
    put("people")
    project = api.init(source="people", key="person_id", environ={})
    assert (project.partition, dataset()["partition"]) == ("none", "none")
    assert run("plan", "people") == 0


@pytest.mark.parametrize("source", ["people/dt=20260131", "{here}/people/dt=20260131/"])
def test_init_on_a_snapshot_takes_the_directory_above(here: Path, source: str) -> None:
    put("people/dt=20260131")
    project = api.init(source=source.format(here=here), key="person_id", environ={})
    assert (project.dataset, project.partition) == ("people", "dt=YYYYMMDD")
    assert dataset()["source"] in ("people", f"{here}/people")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("--key", "persn_id"),
            2,
            "--key 'persn_id' is not in the source; did you mean 'person_id'? choose a column",
        ),
        (
            (),
            2,
            "--key is missing: give the column by which rows are bucketed (columns: person_id, age, finance_1, ",
        ),
        (
            ("--key", "share"),
            3,
            "--key 'share' has type double, which readers cannot bucket; choose a column of boolean, ",
        ),
        (("--key", "AGE"), 2, "--key 'AGE' matches 'age' and 'Age'; choose a column of the source: "),
        (("--source", "empty", "--key", "x"), 3, "/empty: no Parquet files; put them into "),
        (("--source", "nowhere", "--key", "x"), 2, "--source nowhere: no such directory; name the directory of the "),
        (("--source", "peple", "--key", "x"), 2, "--source peple: no such directory; did you mean 'people'? name "),
        (
            ("--source", ".", "--key", "x"),
            3,
            "only empty, people; give the directory that contains the snapshots, such as --source",
        ),
        (("--source", "people/snapshot_dt=2026-01-31/a.parquet"), 2, "is a file; name the directory that holds it"),
        (("empty",), 2, "empty holds no snapshots; name the source: --source PATH, or --source s3://bucket/prefix"),
        (("--key", "person_id", "--dataset", "++"), 2, "--dataset '++' needs a letter or digit in its name"),
        (("--key", "person_id", "--dataset", "../x"), 2, "--dataset '../x': the name must not contain / or"),
        (("--key", "person_id", "--set", "buckets.cuont=3"), 2, "did you mean 'count'?"),
        (
            ("--key", "person_id", "--readers", "athena,cleanrooms"),
            2,
            "not 'cleanrooms'; did you mean 'clean_rooms'?",
        ),
    ],
)
def test_init_with_bad_input_writes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    put("people/snapshot_dt=2026-01-31", share=[0.5, 1.5, 2.5], Age=[1, 2, 3])
    Path("empty").mkdir()
    before = content(here)
    assert run("init", *words) == code
    assert message in capsys.readouterr().err
    assert content(here) == before
    assert not Path("conf").exists()


@pytest.mark.parametrize("present", ["conf/prod.yaml", "conf/base.yaml", "mapping.csv", "conf"])
def test_init_keeps_existing_files(here: Path, capsys: pytest.CaptureFixture[str], present: str) -> None:
    put("people/snapshot_dt=2026-01-31")
    Path(present).parent.mkdir(exist_ok=True)
    Path(present).write_text("mine")
    before = content(here)
    assert run("init", "--key", "person_id") == 2
    name = "mapping.csv" if present == "mapping.csv" else "conf"
    assert f"error: {name} already exists, and init overwrites nothing; edit it, or choose" in capsys.readouterr().err
    assert content(here) == before


def test_init_fills_an_empty_conf_directory() -> None:
    put("people/snapshot_dt=2026-01-31")
    Path("conf").mkdir()
    assert run("init", "--key", "person_id") == 0


def test_init_in_place_without_permission_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put("people/snapshot_dt=2026-01-31")
    before = content(here)
    open_path = Path.open

    def refuse(self: Path, *given: Any, **named: Any) -> Any:
        if self.name == "base.yaml":
            raise PermissionError(13, "Permission denied", str(self))
        return open_path(self, *given, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BucketwheelError, match=r"cannot write to: permission denied"):
        api.init(key="person_id", environ={})
    assert content(here) == before


def test_tables_are_proposed_by_first_word_without_digits() -> None:
    names = ["Key", "IBE8688_Age", "other", "IBE8689_Income", "finance_16", "finance_17", "9_lives"]
    schema = pa.schema([(name, pa.string()) for name in names])
    tables, refused = propose_tables(schema, ["Key"], "people")
    assert tables == {
        "ibe": ["IBE8688_Age", "IBE8689_Income"],
        "people": ["other", "9_lives"],
        "finance": ["finance_16", "finance_17"],
    }
    assert refused == {}
    assert mapping_text({"t": ['a "b", c']}) == 'table,column\nt,"a ""b"", c"\n'


def test_columns_that_fit_no_table_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    put("people", **{"Age ": [1, 2, 3], "--": [1, 2, 3], "PERSON ID": [1, 2, 3], "empty": pa.nulls(3)})
    project = api.init(source="people", key="person_id", environ={})
    assert project.refused == {
        "Age ": "another column is called 'age'",
        "--": "its name has no letter or digit",
        "PERSON ID": "another column is called 'person_id'",
        "empty": "its type null is not supported by catalogs",
    }
    assert run("plan") == 0


def test_sample_configuration_runs_where_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = ("--rows", "60", "--tables", "1", "--columns", "2", "--files", "1")
    assert run("sample", "data", *size) == 0
    assert capsys.readouterr().out.endswith("Then:\n  cd data\n  bucketwheel run infobase_attributes\n")
    before = Path("data/conf/base.yaml").read_bytes()
    assert run("sample", "data", *size, "--snapshot-dt", "2025-11-22") == 0
    assert Path("data/conf/base.yaml").read_bytes() == before
    monkeypatch.chdir("data")
    assert run("run") == 0
    assert Path("out/catalog.duckdb").exists()


def test_new_configuration_repeats_no_default() -> None:
    put("people/snapshot_dt=2026-01-31")
    given = {"engine": "arrow", "catalog.kind": "duckdb", "quality.null_keys": "warn"}
    api.init(key="person_id", overrides=given, environ={})
    document = yaml.safe_load(Path("conf/base.yaml").read_text())
    assert document.pop("datasets")
    assert document == {"quality": {"null_keys": "warn"}, "readers": ["duckdb"]}


def test_init_keeps_other_datasets_that_were_given() -> None:
    put("people/snapshot_dt=2026-01-31")
    other = {"datasets.orders.source": "orders", "datasets.orders.key": "person_id"}
    api.init(source="people", key="person_id", overrides=other, environ={})
    datasets = yaml.safe_load(Path("conf/base.yaml").read_text())["datasets"]
    assert datasets["orders"] == {"source": "orders", "key": ["person_id"]}
    assert set(datasets) == {"orders", "people"}
    assert api.load("local", "conf", environ={}).settings.datasets["orders"].key == ("person_id",)
