from __future__ import annotations

import pickle
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import bucketwheel
from bucketwheel import api
from bucketwheel.errors import ConfigError
from bucketwheel.settings import STAGES, Settings, loading
from bucketwheel.settings.base import parse_bytes

ROOT = Path(bucketwheel.__file__).parents[2]
CONF = ROOT / "conf"

Files = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Write base.yaml and the files of environments."""

    def write(base: str, **environments: str) -> Path:
        for name, text in {"base": base, "local": "", **environments}.items():
            (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def value(loaded: loading.Configuration, name: str) -> tuple[Any, str]:
    return {dotted: (setting, origin) for dotted, setting, origin in loaded.rows()}[name]


def problems(**arguments: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        loading.load(**arguments)
    assert refused.value.exit_code == 2
    return str(refused.value).splitlines()


def test_later_source_overrides_and_origin_is_recorded(files: Files) -> None:
    directory = files(
        "buckets: {count: 1, hash: spark, sort: false}\nengine: one\ntarget: /base\nthreads: 3",
        prod="buckets: {count: 2}\nengine: two\ntarget: /prod",
    )
    loaded = loading.load(
        "prod",
        directory,
        [("engine", "four", "--set"), ("engine", "five", "--engine")],
        {"BUCKETWHEEL__ENGINE": "three", "BUCKETWHEEL__BUCKETS__COUNT": "16", "HOME": "/nobody"},
    )
    assert value(loaded, "threads") == (3, f"{directory}/base.yaml")
    assert value(loaded, "target") == ("/prod", f"{directory}/prod.yaml")
    assert value(loaded, "buckets.count") == (16, "environment BUCKETWHEEL__BUCKETS__COUNT")
    assert value(loaded, "buckets.hash") == ("spark", f"{directory}/base.yaml")
    assert value(loaded, "engine") == ("five", "--engine")
    assert value(loaded, "memory") == ("auto", "default")
    assert (loaded.env, loaded.settings.buckets.count) == ("prod", 16)


def test_false_zero_and_empty_override_defaults(files: Files) -> None:
    directory = files("buckets: {sort: true}\ncatalog: {staged_prefix: stage_, adopt: true, path: x}\nmemory: 1GB")
    loaded = loading.load(
        "local",
        directory,
        [("catalog.adopt", "false", "--set"), ("catalog.staged_prefix", "", "--set")],
        {"BUCKETWHEEL__BUCKETS__SORT": "false", "BUCKETWHEEL__CATALOG__PATH": "null"},
    )
    assert value(loaded, "buckets.sort") == (False, "environment BUCKETWHEEL__BUCKETS__SORT")
    assert value(loaded, "catalog.adopt") == (False, "--set")
    assert value(loaded, "catalog.staged_prefix") == ("", "--set")
    assert value(loaded, "catalog.path") == (None, "environment BUCKETWHEEL__CATALOG__PATH")
    zero = problems(directory=directory, overrides=[("memory", "0", "--set")])
    assert zero == ["memory (--set): should be greater than 0 or 'auto', not 0"]


def test_mapping_in_flag_merges_into_settings(files: Files) -> None:
    directory = files("buckets: {count: 8, hash: spark}")
    loaded = loading.load(directory=directory, overrides=[("buckets", "{count: 32, sort: false}", "--set")])
    assert value(loaded, "buckets.count") == (32, "--set")
    assert value(loaded, "buckets.sort") == (False, "--set")
    assert value(loaded, "buckets.hash") == ("spark", f"{directory}/base.yaml")


def test_flags_define_dataset_without_files() -> None:
    given = {"datasets.new.source": "s3://bucket/in", "datasets.new.key": "[a, b]", "threads": 2}
    loaded = api.load(overrides=given, environ={})
    assert loaded.settings.datasets["new"].key == ("a", "b")
    assert value(loaded, "datasets.new.source") == ("s3://bucket/in", "override")
    assert loaded.settings.stages == STAGES


def test_only_api_reads_process_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKETWHEEL__THREADS", "7")
    assert api.load().settings.threads == 7
    assert api.load(environ={}).settings.threads == "auto"
    assert loading.load().settings.threads == "auto"


def test_all_invalid_settings_are_reported_with_origin(files: Files) -> None:
    directory = files(
        "buckts: {count: 3}\nquality: {null_keys: ignore}\nbuckets: {count: 0, hash: x}\nmemory: 1XB\n"
        "datasets: {a: {sorce: x}, b: 5}",
        dev="lease: {ttl_seconds: -1}\ncatalog: {staged_prefix: x_, final_prefix: x_}",
    )
    messages = problems(
        env="dev",
        directory=directory,
        overrides=[("buckets.sort", "maybe", "--set"), ("stages", "", "--stages"), ("engine.x", "1", "--set")],
        environ={"BUCKETWHEEL__STORGE__REGION": "x"},
    )
    base, dev = directory / "base.yaml", directory / "dev.yaml"
    assert sorted(line.partition("; ")[0] for line in messages) == sorted(
        [
            f"memory ({base}): expected a size such as 512MB, 8GiB or a number of bytes, not '1XB'",
            "stages (--stages): must not be empty, not ''",
            f"buckets.count ({base}): should be greater than or equal to 1 or 'auto' or 'none', not 0",
            f"buckets.hash ({base}): should be 'hive_v1', 'hive_v2', 'spark' or 'iceberg', not 'x'",
            "buckets.sort (--set): should be a valid boolean, not 'maybe'",
            f"quality.null_keys ({base}): should be 'error', 'warn' or 'allow', not 'ignore'",
            f"catalog ({dev}): staged_prefix and final_prefix are both 'x_'",
            f"lease.ttl_seconds ({dev}): should be greater than 0, not -1",
            f"datasets.a.source ({base}): is missing",
            f"datasets.a.key ({base}): is missing",
            f"datasets.a.sorce ({base}): unknown setting",
            f"datasets.b ({base}): expected settings below this name, not 5",
            f"buckts ({base}): unknown setting",
            "storge (environment BUCKETWHEEL__STORGE__REGION): unknown setting",
            "engine (--set): should be a valid string",
        ]
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("buckts.count", "buckts (--set): unknown setting; did you mean 'buckets'? (known: athena, aws, buckets, "),
        ("buckets.cont", "buckets.cont (--set): unknown setting; did you mean 'count'? (known: count, hash, "),
        ("datasets.a.mappng", "datasets.a.mappng (--set): unknown setting; did you mean 'mapping'? (known: "),
        ("zzz", "zzz (--set): unknown setting; known: athena, aws, buckets, "),
    ],
)
def test_unknown_setting_error_suggests_name(name: str, hint: str) -> None:
    dataset = [("datasets.a", {"source": "x", "key": "k"}, "--set")]
    assert problems(overrides=[*dataset, (name, "1", "--set")])[0].startswith(hint)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("a: [1", "/base.yaml: is not YAML: line 1, column 6: while parsing a flow sequence: expected"),
        ("- a", "/base.yaml: expected settings, found list"),
        ("buckets: {count: 1}\nengine: x\nbuckets: {sort: false}", "/base.yaml: 'buckets' is set twice (line 3)"),
        ("buckets: {count: 1, count: 2}", "/base.yaml: 'count' is set twice (line 1)"),
        ("buckets: 3", "buckets ({base}): expected settings below this name, not 3"),
        ("buckets:", "buckets ({base}): expected settings below this name, not None"),
        ("datasets: {a: {source: x, key: 5}}", "datasets.a.key ({base}): expected a name or a list of names, not 5"),
        ("datasets: {a: {source: x, key: ''}}", "datasets.a.key ({base}): must not be empty, not ''"),
        ("target: 2025", "target ({base}): should be a valid string, not 2025"),
        ("buckets: {sort: 'yes'}", "buckets.sort ({base}): should be a valid boolean, not 'yes'"),
        ("buckets: {max_file_bytes: 1.5}", "buckets.max_file_bytes ({base}): expected a size such as"),
    ],
)
def test_files_without_settings_are_refused(files: Files, base: str, message: str) -> None:
    directory = files(base)
    assert message.format(base=directory / "base.yaml") in "\n".join(problems(directory=directory))


def test_undecodable_and_unreadable_files_are_refused(files: Files) -> None:
    directory = files("")
    (directory / "base.yaml").write_bytes(b"engine: \xff\xfe")
    assert problems(directory=directory)[0].startswith(f"{directory}/base.yaml: is not YAML: 'utf-8' codec")
    (directory / "base.yaml").unlink()
    (directory / "local.yaml").unlink()
    (directory / "local.yaml").symlink_to(directory / "local.yaml")
    assert problems(directory=directory)[0].startswith(f"--env local: {directory}/local.yaml does not exist")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("buckets.count.x", "--set: 'buckets.count.x': 'count' is a single value, it has no settings below it"),
        ("a..b", "--set: 'a..b' is not the name of a setting"),
        (".", "--set: '.' is not the name of a setting"),
    ],
)
def test_names_that_cannot_be_set_are_refused(files: Files, name: str, message: str) -> None:
    assert problems(directory=files("buckets: {count: 2}"), overrides=[(name, "1", "--set")]) == [message]


def test_flag_with_invalid_yaml_is_named() -> None:
    assert problems(overrides=[("stages", "[a", "--set")])[0].startswith("--set stages: '[a' is not a YAML value: ")


@pytest.mark.parametrize("text", ["*.pq", "@a", "%a", "`a", "&", "!*", "[0-9]*.pq", "{a}*.pq", "*\\d.pq", "*'a\".pq"])
def test_quotes_of_the_error_make_text_of_a_flag(text: str) -> None:
    name = "datasets.d.files"
    (problem,) = problems(overrides=[(name, text, "--set")])
    quoted = problem.rpartition("for this text, put quotes inside those of the shell: ")[2]
    others = [("datasets.d.source", "in", "--set"), ("datasets.d.key", "id", "--set")]
    loaded = loading.load(overrides=[*others, (name, shlex.split(quoted)[0], "--set")])
    assert loaded.settings.datasets["d"].files == (text,)


def test_list_of_patterns_is_advised_to_quote_each() -> None:
    (problem,) = problems(overrides=[("datasets.d.files", "[*.pq, *.parquet]", "--set")])
    assert problem.endswith("; put quotes around each text of the list")


def test_unknown_environment_error_lists_known_ones(files: Files, tmp_path: Path) -> None:
    directory = files("", prod="", dev="")
    assert problems(env="prd", directory=directory) == [
        f"--env prd: {directory}/prd.yaml does not exist; did you mean 'prod'? (known: dev, local, prod)"
    ]
    assert problems(directory=tmp_path / "nowhere") == [f"--conf {tmp_path}/nowhere: no such directory"]


def test_without_files_only_local_environment_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert loading.load().settings == Settings()
    assert problems(env="prod") == ["--env prod: no directory ./conf here; name one with --conf DIR"]


def test_settings_are_frozen_at_every_level() -> None:
    settings = loading.load(overrides=[("datasets.a", {"source": "x", "key": "k"}, "--set")]).settings
    for record, name in ((settings, "engine"), (settings.buckets, "count"), (settings.datasets["a"], "source")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(record, name, "other")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (123, 123),
        ("123", 123),
        ("1 kB", 1000),
        ("512MB", 512_000_000),
        ("1.5GiB", 3 * 2**29),
        ("8gib", 2**33),
        ("2 b", 2),
    ],
)
def test_size_accepts_number_or_text_with_unit(text: Any, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1TB", "-1", "1 2", 1.5, None, True])
def test_invalid_size_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="expected a size such as 512MB"):
        parse_bytes(text)


@pytest.mark.parametrize("env", ["prod", "dev"])
def test_cloud_environments_match_replaced_job(env: str) -> None:
    loaded = loading.load(env, CONF)
    settings, data = loaded.settings, f"s3://omc-flywheel-data-us-east-1-{env}"
    assert settings.target == f"{data}/omc_cleanroom_data"
    for name in ("infobase_attributes", "addressable_ids"):
        assert settings.datasets[name].source == f"{data}/opus/{name}/raw_input"
        assert settings.datasets[name].key == ("Customer_User_id",)
    assert settings.datasets["infobase_attributes"].mapping == f"{data}/opus/infobase_attributes/mapping.csv"
    assert settings.datasets["addressable_ids"].mapping is None
    assert settings.athena.output_location == f"s3://omc-flywheel-{env}-analysis-data/athena/"
    assert (settings.catalog.kind, settings.catalog.database) == ("glue", f"omc_flywheel_{env}")
    glue = settings.glue
    assert (glue.role, glue.glue_version, glue.worker_type) == (f"omc_flywheel-{env}-glue-role", "5.0", "G.4X")
    assert (glue.number_of_workers, glue.timeout_minutes, glue.execution_class) == (10, 60, "STANDARD")
    assert (settings.buckets.count, settings.buckets.hash) == (256, "hive_v1")
    assert settings.storage.region is None


def test_configuration_has_no_account_region_or_secret() -> None:
    paths = list(CONF.glob("*.yaml"))
    assert len(paths) > 2
    for path in paths:
        text = path.read_text()
        assert not [word for word in text.replace(":", " ").split() if word.isdigit() and len(word) == 12]
        assert "region: us-" not in text
        assert "secret" not in text.lower()


def test_local_environment_needs_no_file(files: Files) -> None:
    directory = files("threads: 3", prod="threads: 4")
    (directory / "local.yaml").unlink()
    assert loading.load("local", directory).settings.threads == 3
    (directory / "base.yaml").unlink()
    assert loading.load("local", directory).settings == Settings()
    (directory / "prod.yaml").unlink()
    assert problems(directory=directory) == [
        f"--conf {directory}: no .yaml files; put base.yaml and <env>.yaml there"
    ]


def test_local_environment_of_checkout_is_the_defaults() -> None:
    assert loading.load("local", CONF).settings == Settings()


def test_defaults_have_the_type_of_given_values() -> None:
    given = Settings.model_validate(Settings().model_dump())
    assert repr(given.monitoring) == repr(Settings().monitoring)
    assert isinstance(Settings().monitoring.rows_changed_percent, float)


def test_code_beside_sample_and_test_data_names_no_customer() -> None:
    names = re.compile(
        r"omc|flywheel|infobase|addressable|acxiom|customer_user|\bopus\b|\b(ibe|miacs)_", re.IGNORECASE
    )
    app = ROOT / "app" / "bucketwheel"
    lines = [
        f"{path.relative_to(app)}: {line.strip()}"
        for path in sorted(app.rglob("*"))
        if path.suffix in (".py", ".j2") and path.relative_to(app).parts[0] not in ("sample", "testing")
        for line in path.read_text("utf-8").splitlines()
        if names.search(line)
    ]
    assert lines == []


def test_mappings_in_settings_are_frozen_and_picklable() -> None:
    settings = Settings.model_validate({"datasets": {"a": {"source": "in", "key": "k"}}})
    calls = {"__setitem__": ("b", 1), "update": ({"b": 1},), "setdefault": ("b", 1), "pop": ("a", None), "clear": ()}
    for mapping in (settings.datasets, settings.deploy.jobs, settings.glue.arguments):
        before: Any = dict(mapping)
        for name, arguments in calls.items():
            with pytest.raises(TypeError, match="settings are frozen"):
                getattr(mapping, name)(*arguments)
        assert mapping == before
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    with pytest.raises(TypeError, match="settings are frozen"):
        again.datasets["b"] = 1
    assert again.model_dump() == settings.model_dump()
