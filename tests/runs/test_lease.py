"""The lease on disk against the contract of every lease; test_lease_renewal.py tests its locks."""

from __future__ import annotations

from pathlib import Path

import pytest
from lease_support import DiskHome

from lease_contract import LeaseContract
from lease_renewal_contract import RenewalContract


@pytest.fixture
def home(tmp_path: Path) -> DiskHome:
    return DiskHome(tmp_path / "metadata")


class TestLease(LeaseContract):
    pass


class TestRenewal(RenewalContract):
    pass
