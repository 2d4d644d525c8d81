"""Ways in which a run fails."""

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
    """Let a stage raise instead of doing its work."""
    stage_class = type(plugins.stage(name))

    def fail(_stage: object, _manifest: Manifest, _services: Services) -> None:
        raise error or BoomError(f"{name} broke")

    monkeypatch.setattr(stage_class, "run", fail)


def break_bucket(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let the engine fail after a number of buckets."""
    make = plugins.engine

    def limited(settings: Settings) -> CountingEngine:
        return CountingEngine(make(settings), after)

    monkeypatch.setattr(plugins, "engine", limited)


def counting(monkeypatch: pytest.MonkeyPatch) -> list[CountingEngine]:
    """Count what the engines that are made from here on write."""
    make, made = plugins.engine, list[CountingEngine]()

    def counted(settings: Settings) -> CountingEngine:
        made.append(CountingEngine(make(settings)))
        return made[-1]

    monkeypatch.setattr(plugins, "engine", counted)
    return made


def failed_in_bucket(case: Case, after: int = 2) -> Manifest:
    with pytest.MonkeyPatch.context() as patch:
        break_bucket(patch, after)
        with pytest.raises(RuntimeError, match="the power went"):
            case.run(UNPUBLISHED)
    return case.manifests()[-1]
