"""The lease on S3: the contract of every lease, conditional puts and lost responses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults.proxy import FaultProxy, Request

from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import TTL, LeaseContract, LeaseDirectory
from bucketwheel.testing.lease_renewal import RenewalContract
from bucketwheel.testing.lease_watch import WatchContract
from s3_support import Bucket


class S3LeaseDirectory(LeaseDirectory):
    """Lease directory below an S3 prefix."""

    def __init__(self, bucket: Bucket) -> None:
        self.path = bucket.uri("out/_bucketwheel/people")
        self._bucket = bucket
        self.key = "out/_bucketwheel/people/lease.json"

    def content(self) -> str:
        return self._bucket.get(self.key).decode()

    def put(self, content: str) -> None:
        self._bucket.put(self.key, content.encode())

    def remove(self) -> None:
        self._bucket.client.delete_object(Bucket=self._bucket.name, Key=self.key)

    def is_free(self) -> bool:
        return self.content() == "{}"


@pytest.fixture
def directory(bucket: Bucket) -> S3LeaseDirectory:
    return S3LeaseDirectory(bucket)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestLeaseOnS3(LeaseContract):
    pass


class TestRenewalOnS3(RenewalContract):
    pass


class TestWatchOnS3(WatchContract):
    pass


def is_put(request: Request) -> bool:
    return request.method == "PUT" and request.key.endswith("lease.json")


def test_lease_writes_are_conditional(directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy) -> None:
    with directory.lease(clock) as lease:
        assert lease.renew()
    puts = [one.request.headers for one in proxy.answered if is_put(one.request)]
    assert [("if-none-match" in put, "if-match" in put) for put in puts] == [
        (True, False),
        (False, True),
        (False, True),
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_lease_write_with_lost_response_succeeds(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy, number: int
) -> None:
    lost = []

    def plan(request: Request) -> str | None:
        if is_put(request):
            lost.append(request)
            return "lost" if len(lost) == number + 1 else None
        return None

    proxy.plan = plan
    with directory.lease(clock) as lease:
        clock.forward(TTL / 2)
        assert lease.renew()
        with lease.guard():
            pass
    assert len(lost) == 4
    assert directory.is_free()
    with directory.lease(clock):
        pass


def test_enter_fails_when_lease_is_taken_concurrently(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy
) -> None:
    def plan(request: Request) -> str | None:
        if is_put(request) and not request.number:
            proxy.plan = lambda _: None
            # A holder on another host, whose process is not checked.
            directory.put(
                '{"token": "t", "host": "other", "pid": 1, "process_started": 0.0, "acquired": "", '
                '"expires": "2025-04-01T12:01:00+00:00"}'
            )
        return None

    proxy.plan = plan
    with pytest.raises(LeaseError, match=r"took the lease s3://.* at the same moment \(process 1 on other\)"):
        directory.lease(clock).__enter__()
    assert directory.stored()["token"] == "t"


def test_guard_renews_only_lease_about_to_expire(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy
) -> None:
    with directory.lease(clock) as lease:
        proxy.answered.clear()
        with lease.guard():
            pass
        assert [one.request.method for one in proxy.answered] == ["GET"]
        clock.forward(TTL - 1)
        with lease.guard():
            clock.forward(TTL - 1)
            with pytest.raises(LeaseError, match="another run holds"):
                directory.lease(clock).__enter__()


def test_guard_fails_when_lease_is_taken_during_renewal(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy
) -> None:
    with directory.lease(clock) as lease:
        clock.forward(TTL)

        def plan(request: Request) -> str | None:
            if is_put(request):
                proxy.plan = lambda _: None
                directory.put(directory.content().replace(lease._token, "follower"))
            return None

        proxy.plan = plan
        with pytest.raises(LeaseError, match=r"lost the lease s3://.* holds it now"), lease.guard():
            pytest.fail("the guard of a lost lease let its holder publish")
        assert directory.stored()["token"] == "follower"


def test_guard_does_not_block_renewal_by_another_thread(directory: S3LeaseDirectory, clock: Clock) -> None:
    with directory.lease(clock) as lease, lease.guard(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(lease.renew).result(30)


def test_guard_with_unreadable_lease_names_permission(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy
) -> None:
    with directory.lease(clock) as lease:
        proxy.plan = lambda _: "403 AccessDenied"
        with pytest.raises(StorageError, match=r"lease\.json: GetObject was denied .*s3:GetObject on"), lease.guard():
            pass


def test_exit_ignores_lease_that_cannot_be_released(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy, tmp_path: Path
) -> None:
    with directory.lease(clock):
        proxy.plan = lambda _: "500"
    assert directory.stored()["pid"]
