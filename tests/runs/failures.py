"""Make runs fail."""

from __future__ import annotations

import pytest

from bucketwheel import plugins
from bucketwheel.contracts import Services
from bucketwheel.runs.manifest import Manifest
from bucketwheel.settings import STAGES, Settings
from runs_support import Case, CountingEngine

# Publishing takes most of the time of a small run.
UNPUBLISHED = STAGES[:5]


class BoomError(Exception):
    pass


def break_stage(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException | None = None) -> None:
    """Make a stage raise."""
    stage_class = type(plugins.stage(name))

    def fail(_stage: object, _manifest: Manifest, _services: Services) -> None:
        raise error or BoomError(f"{name} broke")

    monkeypatch.setattr(stage_class, "run", fail)


def break_bucket(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Make the engine fail after a number of buckets."""
    make = plugins.engine

    def limited(settings: Settings) -> CountingEngine:
        return CountingEngine(make(settings), after)

    monkeypatch.setattr(plugins, "engine", limited)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[CountingEngine]:
    """Return a list that collects every engine created from now on; each counts its writes."""
    make, engines = plugins.engine, list[CountingEngine]()

    def counted(settings: Settings) -> CountingEngine:
        engines.append(CountingEngine(make(settings)))
        return engines[-1]

    monkeypatch.setattr(plugins, "engine", counted)
    return engines


def failed_in_bucket(case: Case, after: int = 2) -> Manifest:
    with pytest.MonkeyPatch.context() as patch:
        break_bucket(patch, after)
        with pytest.raises(RuntimeError, match="the power went"):
            case.run(UNPUBLISHED)
    return case.manifests()[-1]
