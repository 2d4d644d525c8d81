from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

import requirements
from bucketwheel.sample import Sample, SampleSpec, write_sample
from bucketwheel.storage import durable
from project import WIDE, Project, Result

# A machine that others use too is slow at times; that is no failure.
settings.register_profile("same", deadline=None, derandomize=True)
# For a first look: `make check`.
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=20)
# Looks for what the same examples never show, and prints how to see a failure again.
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
# What a shell starts in the background ignores Ctrl-C, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

SMALL = SampleSpec(rows=1_200, tables=3, columns=4, files=3, row_group_rows=150)
EARLIER = "2025-09-22"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of an `xdist_group` on one worker: pytest 9.2 does not read what xdist 3.8 writes."""
    for item in items:
        grouped = vars(item).get("_nodeid")
        if grouped:
            item._id = type(item.id).parse(grouped)


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the developer has set up for real work away from the tests, and the tests from it."""
    for name in list(os.environ):
        if name.startswith(("BUCKETWHEEL", "AWS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def refused_requests() -> Iterator[list[str]]:
    """The requests to AWS of the whole session that its service models refuse; `valid_requests` reports them."""
    refused: list[str] = []
    if find_spec("botocore") is None:
        yield refused
        return
    from aws_shapes import requests_checked

    with requests_checked(refused):
        yield refused


@pytest.fixture(autouse=True)
def valid_requests(refused_requests: list[str]) -> Iterator[None]:
    """Fail a test that sends AWS a request with an unknown value or a deprecated field."""
    refused_requests.clear()
    yield
    assert refused_requests == []


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A valid sample; do not change it."""
    return write_sample(tmp_path_factory.mktemp("clean"), SMALL)


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A valid sample of the previous month with other people; do not change it."""
    return write_sample(tmp_path_factory.mktemp("earlier"), replace(SMALL, seed=8, rows=900, snapshot_dt=EARLIER))


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """Where AWS is, as `aws_server` has it."""
    from aws_server import served, strict_glue

    with strict_glue(), served() as endpoint:
        yield endpoint


@pytest.fixture
def aws(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where AWS is, with credentials for it in the environment."""
    from aws_server import CREDENTIALS

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return aws_endpoint


@pytest.fixture
def no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether data survives a power cut is not seen here, and waiting for a disk that others use takes long.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(durable, "sync_file_system", lambda _: True)


@pytest.fixture
def project(tmp_path: Path, clean: Sample, no_flush: None) -> Project:
    """A project on the good sample in which nothing has been run."""
    return Project(tmp_path / "project", clean)


class Shelf:
    """Projects as they are after a run; catalogs hold absolute paths, so each is restored to the same place."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, name: str, sample: Sample) -> Project:
        place, kept = self._directory / name / "project", self._directory / name / "kept"
        if not kept.exists():
            Project(place, sample).run()
            place.rename(kept)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(kept, place)
        return Project(place, sample)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def current(shelf: Shelf, clean: Sample, no_flush: None) -> Project:
    """A project that has published its input, the good sample."""
    return shelf.take("current", clean)


@pytest.fixture
def published(shelf: Shelf, clean: Sample, earlier: Sample, no_flush: None) -> Project:
    """A project that has published the month before; its input is the good sample of this month."""
    project = shelf.take("published", earlier)
    project.use(clean)
    return project


@pytest.fixture
def dirty(tmp_path: Path) -> Callable[..., Sample]:
    """Make a sample with a defect, of this month."""

    def make(defect: str | None, **changes: object) -> Sample:
        spec = replace(SMALL, dirty=defect, **changes)  # type: ignore[arg-type]
        return write_sample(tmp_path / f"sample-{defect}", spec)

    return make


@pytest.fixture
def refused() -> Callable[..., Result]:
    """Run something that has to be refused, and see that what was published before still answers."""

    def run(project: Project, exit_code: int, *arguments: str, dataset: str = WIDE) -> Result:
        before, noted = project.content(), project.snapshot_dt()
        assert before
        result = project.cli("run", dataset, *arguments)
        still_answers(project, before, noted)
        assert (result.exit_code, result.stdout) == (exit_code, ""), result.stderr
        return result

    return run


def still_answers(project: Project, before: object, noted: str) -> None:
    assert project.content() == before
    assert project.snapshot_dt() == noted


cannot = requirements.cannot
java = requirements.java


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a whole text with a file in `tests/golden`; UPDATE_GOLDEN=1 writes it instead."""

    def compare(name: str, text: str) -> None:
        path = Path(__file__).parent / "golden" / name
        if os.environ.get("UPDATE_GOLDEN") == "1":
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare
