from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def quiet_log() -> None:
    """Turn off the log of the commands, which costs time."""
    logging.getLogger("bucketwheel").setLevel(logging.CRITICAL + 1)
