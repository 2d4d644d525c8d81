"""Run the lease suites on disk; test_lease_renewal.py tests the locks."""

from __future__ import annotations

from pathlib import Path

import pytest
from lease_support import LocalLeaseDirectory

from bucketwheel.testing.lease import LeaseContract
from bucketwheel.testing.lease_renewal import RenewalContract
from bucketwheel.testing.lease_watch import WatchContract


@pytest.fixture
def directory(tmp_path: Path) -> LocalLeaseDirectory:
    return LocalLeaseDirectory(tmp_path / "metadata")


class TestLease(LeaseContract):
    pass


class TestRenewal(RenewalContract):
    pass


class TestWatch(WatchContract):
    pass
