"""Settings of plug-ins: `plugins.<name>.<setting>`, checked by the plug-in's own model."""

from __future__ import annotations

import pickle
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from bucketwheel import api, plugins
from bucketwheel.errors import ConfigError
from bucketwheel.pipeline.fingerprint import fingerprint
from bucketwheel.safe_text import MASK
from bucketwheel.settings import Settings
from bucketwheel.settings.secrets import secrets_in
from bucketwheel.stages.verify import Verify
from memory_catalog import MemoryCatalog
from stage_support import services


class Own(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = "here"
    attempts: int = Field(default=3, ge=1)
    api_token: str = ""
    hidden: SecretStr = SecretStr("")


class AcmeCatalog(MemoryCatalog):
    settings_model = Own

    def __init__(self, settings: Settings, own: Own) -> None:
        super().__init__()
        self.settings, self.own = settings, own


class AcmeStage(Verify):
    settings_model = Own

    def __init__(self, own: Own) -> None:
        self.own = own


class PlainCatalog(MemoryCatalog):
    pass


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("acme", f"{__name__}:AcmeCatalog", "bucketwheel.catalogs"),
        EntryPoint("plain", f"{__name__}:PlainCatalog", "bucketwheel.catalogs"),
        EntryPoint("audit", f"{__name__}:AcmeStage", "bucketwheel.stages"),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda **query: EntryPoints(points).select(**query))


def load(environ: dict[str, str] | None = None, **given: Any) -> api.Configuration:
    overrides = [(name.replace("__", "."), value, "--set") for name, value in given.items()]
    return api.load(overrides=overrides, environ=environ or {})


def test_plugin_settings_reach_the_constructor() -> None:
    config = load({"BUCKETWHEEL__PLUGINS__ACME__ATTEMPTS": "7"}, catalog__kind="acme", plugins__acme__address="there")
    catalog = plugins.catalog(config.settings)
    assert isinstance(catalog, AcmeCatalog)
    assert (catalog.own.address, catalog.own.attempts) == ("there", 7)
    assert catalog.settings is config.settings
    assert pickle.loads(pickle.dumps(config.settings)) == config.settings
    stage: Any = plugins.stage("audit", load(plugins__audit__address="x").settings)
    assert isinstance(stage, AcmeStage)
    assert stage.own.address == "x"


def test_load_searches_installed_packages_once(monkeypatch: pytest.MonkeyPatch) -> None:
    queries: list[dict[str, Any]] = []
    search: Any = vars(plugins)["entry_points"]

    def count(**query: Any) -> Any:
        queries.append(query)
        return search(**query)

    monkeypatch.setattr(plugins, "entry_points", count)
    assert load(plugins__acme__address="x").settings.plugins["acme"]["address"] == "x"
    # One search for all names, and one for the class behind `acme`.
    assert queries == [{}, {"group": "bucketwheel.catalogs"}]


def test_plugin_settings_are_read_from_yaml(tmp_path: Path) -> None:
    (tmp_path / "local.yaml").write_text("plugins: {acme: {address: file}}")
    config = api.load("local", tmp_path, environ={})
    assert ("plugins.acme.address", "file", str(tmp_path / "local.yaml")) in config.rows()


def test_config_shows_settings_of_chosen_plugins_with_origin() -> None:
    rows = {name: (value, origin) for name, value, origin in load(plugins__acme__address="there").rows()}
    assert rows["plugins.acme.address"] == ("there", "--set")
    assert rows["plugins.acme.attempts"] == (3, "default")
    assert "plugins.audit.attempts" not in rows
    chosen = {name for name, _, _ in load(catalog__kind="acme").rows()}
    assert "plugins.acme.attempts" in chosen


def test_config_masks_secrets_of_plugins() -> None:
    config = load(plugins__acme__api_token="sesame", plugins__acme__hidden="open")
    rows = {name: value for name, value, _ in config.rows()}
    assert rows["plugins.acme.api_token"] == rows["plugins.acme.hidden"] == MASK
    names = [name for name, _ in secrets_in(config.settings.model_dump())]
    assert names == ["plugins.acme.api_token", "plugins.acme.hidden"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("plugins__acme__addressx", "x", "plugins.acme.addressx (--set): unknown setting; did you mean 'address'?"),
        ("plugins__acme__attempts", 0, "plugins.acme.attempts (--set): should be greater than or equal to 1, not 0"),
        ("plugins__acne__address", "x", "plugins.acne (--set): no plug-in is called 'acne'; did you mean 'acme'?"),
        ("plugins__acne__address", "x", "bucketwheel.stages, bucketwheel.engines, bucketwheel.catalogs"),
        ("plugins__plain__address", "x", "plugins.plain (--set): 'plain' has no settings of its own"),
        ("plugins__arrow__address", "x", "plugins.arrow (--set): 'arrow' has no settings of its own"),
    ],
)
def test_wrong_plugin_settings_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**{name: value})
    assert message in str(caught.value)


def test_wrong_plugin_settings_built_in_python_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"plugins\.audit\.addressx .* did you mean 'address'"):
        plugins.stage("audit", Settings(plugins={"audit": {"addressx": "x"}}))


def test_fingerprint_holds_settings_of_chosen_stages_only() -> None:
    given = services()
    settings = load(
        plugins__audit__address="x", plugins__acme__address="y", catalog__kind="acme", stages="discover,audit"
    ).settings
    marks = fingerprint(replace(given, settings=settings), [])
    assert marks["plugins.audit.address"] == "x"
    assert not [name for name in marks if name.startswith("plugins.acme")]
    assert not [name for name in fingerprint(given, []) if name.startswith("plugins")]
