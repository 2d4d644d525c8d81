"""The catalog tables of a run with several layouts: names, locations, buckets and parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bucketwheel.catalogs.definitions import definitions, published_layouts, table_names
from bucketwheel.contracts import CatalogTable, Services
from bucketwheel.pipeline.services import RunRequest, make_services
from bucketwheel.runs.manifest import Manifest
from runs_support import DATASET, JANUARY, Case

LAYOUTS = [
    {"name": "athena", "hash": "hive_v1"},
    {"name": "spark", "hash": "spark", "buckets": 2, "sort": False},
]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    case = Case(tmp_path_factory.mktemp("layouts"))
    case.snapshot(JANUARY)
    case.run(stages=("discover", "split", "size", "bucket", "verify"))
    return case


def written(case: Case, *layouts: dict[str, Any]) -> Manifest:
    """Return the manifest of the run as if it had written these layouts."""
    (manifest,) = case.manifests()
    stages = dict(manifest.stages)
    first = manifest.size.layouts[0].model_dump(mode="json")
    sizes = [{**first, **layout} for layout in layouts]
    tables = [
        {**table, "layout": size["name"] if place else ""}
        for place, size in enumerate(sizes)
        for table in stages["verify"].result["tables"]
    ]
    changed = {
        "size": {**sizes[0], "other_layouts": sizes[1:]},
        "verify": {"tables": tables},
    }
    for stage, values in changed.items():
        record = stages[stage]
        stages[stage] = record.model_copy(update={"result": {**record.result, **values}})
    return manifest.model_copy(update={"stages": stages})


ATHENA = {"name": "athena", "prefix": "bucketed_"}
SPARK = {"name": "spark", "prefix": "spark_", "hash": "spark", "bucket_count": 2, "sort": False}
ICEBERG = {"name": "ice", "prefix": "ice_", "hash": "iceberg"}


def services(case: Case, **changes: Any) -> Services:
    return make_services(case.settings(**changes), RunRequest(DATASET), lambda _: None)


def by_name(tables: list[CatalogTable]) -> dict[str, CatalogTable]:
    return {table.name: table for table in tables}


def test_final_tables_are_those_of_all_layouts(case: Case) -> None:
    manifest = written(case, ATHENA, SPARK)
    tables = by_name(definitions(manifest, services(case, layouts=LAYOUTS, catalog__kind="glue"), "ctas"))
    assert list(tables) == ["bucketed_people_1", "bucketed_people_2", "spark_people_1", "spark_people_2"]
    hive, spark = tables["bucketed_people_1"], tables["spark_people_1"]
    assert (hive.bucket_count, hive.sorted, spark.bucket_count, spark.sorted) == (4, True, 2, False)
    assert Path(hive.location) == case.target / DATASET / "people_1" / manifest.run_id
    assert Path(spark.location) == case.target / DATASET / "spark.people_1" / manifest.run_id
    assert hive.parameters["bucketing_version"] == "1"
    assert spark.parameters["bucketing_format"] == "spark"
    assert [table.parameters["bucketwheel.layout"] for table in (hive, spark)] == ["athena", "spark"]
    assert hive.spark_schema is None
    assert spark.spark_schema is not None


def test_staged_tables_are_those_of_the_first_layout(case: Case) -> None:
    manifest, given = written(case, ATHENA, SPARK), services(case, layouts=LAYOUTS)
    assert [table.name for table in definitions(manifest, given, "register")] == ["ext_people_1", "ext_people_2"]
    assert definitions(written(case, ICEBERG), given, "register") == []


def test_layout_without_a_name_has_no_parameter(case: Case) -> None:
    (manifest,) = case.manifests()
    assert all(
        "bucketwheel.layout" not in table.parameters for table in definitions(manifest, services(case), "ctas")
    )


def test_iceberg_layout_is_marked_and_has_no_hive_buckets(case: Case) -> None:
    given = services(case, layouts=[*LAYOUTS, {"name": "ice", "hash": "iceberg"}])
    manifest = written(case, ATHENA, ICEBERG)
    assert table_names(manifest, given.settings, "ctas") == [
        ("bucketed_people_1", False),
        ("bucketed_people_2", False),
        ("ice_people_1", True),
        ("ice_people_2", True),
    ]


@pytest.mark.parametrize(
    ("layouts", "now", "prefixes"),
    [
        # The configuration gives the prefix, also if it has changed since.
        (
            [ATHENA, SPARK],
            [{"name": "athena"}, {"name": "spark", "prefix": "s_"}],
            {"athena": "bucketed_", "spark": "s_"},
        ),
        # A layout that is no longer configured keeps its tables.
        ([ATHENA, SPARK], [{"name": "athena"}], {"athena": "bucketed_", "spark": "spark_"}),
        # The first layout shows in the tables of the configuration, whatever the layouts are called.
        ([{"name": ""}], [{"name": "athena"}], {"": "bucketed_"}),
        (
            [{"name": ""}],
            [{"name": "spark", "prefix": "s_"}, {"name": "athena", "prefix": "bucketed_"}],
            {"": "bucketed_"},
        ),
        ([{"name": ""}], [{"name": "athena", "prefix": "a_"}], {"": "a_"}),
        ([ATHENA, SPARK], [], {"athena": "bucketed_", "spark": "spark_"}),
        # Its prefix belongs to another layout now.
        ([ATHENA, SPARK], [{"name": "spark"}], {"spark": "bucketed_"}),
        (
            [ATHENA, SPARK],
            [{"name": "athena"}, {"name": "new", "prefix": "spark_"}],
            {"athena": "bucketed_", "spark": "spark_"},
        ),
        # No catalog holds Iceberg tables any more.
        ([ATHENA, ICEBERG], [{"name": "athena"}], {"athena": "bucketed_"}),
    ],
)
def test_prefixes_follow_the_configuration(
    case: Case, layouts: list[dict[str, Any]], now: list[dict[str, Any]], prefixes: dict[str, str]
) -> None:
    chosen = published_layouts(written(case, *layouts), case.settings(layouts=now), "ctas")
    assert {layout.name: prefix for layout, prefix in chosen} == prefixes
