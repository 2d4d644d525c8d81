"""A run respects the memory limit of its container."""

from __future__ import annotations

import pytest
from container_support import SCRATCH, application, finish, run_options

pytestmark = pytest.mark.docker

LIMIT = 512 * 2**20
# More than fits: with a budget that knows of no limit, a run on it takes 800 MiB.
SAMPLE = ("--rows", "1800000", "--tables", "6", "--columns", "10", "--files", "4")


def test_run_respects_memory_limit_of_container(glue_image: str) -> None:
    run = f"bucketwheel run infobase_attributes --env local {' '.join(run_options(SCRATCH))}"
    script = (
        "/opt/bucketwheel/venv/bin/python -c "
        "'from bucketwheel.host import available_memory as a; print(a())' && "
        f"cd {SCRATCH} && bucketwheel sample data {' '.join(SAMPLE)} >&2 && {run} --output json >manifest && "
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
