"""Runs in the application's image: the same bytes as on the host, and within the memory that it is given."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from container_support import ROOT, SCRATCH, application, finish

pytestmark = pytest.mark.docker

SAMPLE = ("--rows", "20000", "--tables", "3", "--columns", "5", "--files", "3")
LIMIT = 512 * 2**20
# More than fits: with a budget that knows of no limit, a run on it takes 800 MiB.
LARGE = ("--rows", "1800000", "--tables", "6", "--columns", "10", "--files", "4")


def settings(place: str) -> list[str]:
    """The options of a run on the sample in `place`, which publishes in `place`."""
    named = {
        "target": f"{place}/out",
        "buckets.count": "8",
        "catalog.path": f"{place}/catalog.duckdb",
        "datasets.infobase_attributes.source": f"{place}/data/opus/infobase_attributes/raw_input",
        "datasets.infobase_attributes.mapping": f"{place}/data/opus/infobase_attributes/mapping.csv",
        "datasets.addressable_ids.source": f"{place}/data/opus/addressable_ids/raw_input",
        "storage.spill_directory": place,
    }
    return [word for name, value in named.items() for word in ("--set", f"{name}={value}")]


def without_run(path: str) -> str:
    """The path of a file below the target, without the part that differs from run to run."""
    dataset, table, _, *rest = Path(path).parts
    return "/".join((dataset, table, *rest))


def digests(listing: str) -> dict[str, str]:
    """What `sha256sum` has printed, by file."""
    lines = (line.split(maxsplit=1) for line in listing.splitlines())
    return {without_run(path.removeprefix("./")): digest for digest, path in lines}


def in_container(image: str, script: str, **options: object) -> str:
    return finish(application(image, ["-c", script], entrypoint=["/bin/bash"], **options), 500).check()


@pytest.fixture(scope="module")
def on_host(tmp_path_factory: pytest.TempPathFactory, cannot: Callable[[str], NoReturn]) -> dict[str, str]:
    """Digests of the data files that the host writes with the pyarrow and numpy of the image."""
    python = Path(os.environ.get("FLOOR_PYTHON") or ROOT / ".venv-floor" / "bin" / "python")
    if not python.exists():
        cannot(f"{python} is not here; `make floor` makes it")
    place = tmp_path_factory.mktemp("host")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "app")}
    for words in (["sample", f"{place}/data", *SAMPLE], ["run", "--conf", str(ROOT / "conf"), *settings(str(place))]):
        command = [str(python), "-m", "bucketwheel", *words]
        subprocess.run(command, check=True, env=environment, cwd=place, capture_output=True)
    found = (place / "out").rglob("*.parquet")
    return {
        without_run(str(path.relative_to(place / "out"))): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
    }


@pytest.mark.parametrize("name", ["glue_image", "emr_image"])
def test_the_container_writes_the_bytes_of_the_host(
    request: pytest.FixtureRequest, on_host: dict[str, str], name: str
) -> None:
    script = (
        f"cd {SCRATCH} && bucketwheel sample data {' '.join(SAMPLE)} >&2 && "
        f"bucketwheel run --env local {' '.join(settings(SCRATCH))} >&2 && "
        "cd out && find . -name '*.parquet' -exec sha256sum {} +"
    )
    # Without a network: nothing is fetched, and nobody is told.
    listing = in_container(request.getfixturevalue(name), script, network_mode="none")
    assert len(on_host) == 4 * 8
    assert digests(listing) == on_host


def test_a_run_respects_the_memory_of_its_container(glue_image: str) -> None:
    run = f"bucketwheel run infobase_attributes --env local {' '.join(settings(SCRATCH))}"
    script = (
        "/opt/bucketwheel/venv/bin/python -c "
        "'from bucketwheel.engines.arrow import available_memory as a; print(a())' && "
        f"cd {SCRATCH} && bucketwheel sample data {' '.join(LARGE)} >&2 && {run} --output json >manifest && "
        "grep -o -E '\"spilled_bytes\": [0-9]+' manifest && "
        # What happens to a run that thinks that it has more.
        f"({run} --set target=other --set memory=8GiB >&2; echo ended with $?)"
    )
    container = application(
        glue_image, ["-c", script], entrypoint=["/bin/bash"], mem_limit=LIMIT, memswap_limit=LIMIT
    )
    limit, spilled, other = finish(container, 500).check().splitlines()
    assert int(limit) == LIMIT
    assert int(spilled.split()[-1]) > 0
    assert other == "ended with 137"
