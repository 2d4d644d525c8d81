"""The lease on S3: what every lease does, and what conditional puts and lost answers make of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.proxy import FaultProxy, Request

from bucketwheel.errors import LeaseError, StorageError
from bucketwheel.testing.clock import Clock
from bucketwheel.testing.lease import TTL, LeaseContract, LeaseDirectory
from bucketwheel.testing.lease_renewal import RenewalContract
from s3_support import Bucket


class S3LeaseDirectory(LeaseDirectory):
    """The lease below one prefix."""

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


def is_put(request: Request) -> bool:
    return request.method == "PUT" and request.key.endswith("lease.json")


def test_every_change_of_the_lease_is_conditional(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy
) -> None:
    with directory.lease(clock) as lease:
        assert lease.renew()
    puts = [one.request.headers for one in proxy.answered if is_put(one.request)]
    assert [("if-none-match" in put, "if-match" in put) for put in puts] == [
        (True, False),
        (False, True),
        (False, True),
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_put_of_which_the_answer_was_lost_is_known_for_its_own(
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


def test_a_lease_taken_between_looking_and_taking_is_not_taken_again(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy
) -> None:
    def plan(request: Request) -> str | None:
        if is_put(request) and not request.number:
            proxy.plan = lambda _: None
            # Another machine, whose process is not looked for here.
            directory.put(
                '{"token": "t", "host": "other", "pid": 1, "process_started": 0.0, "acquired": "", "expires": ""}'
            )
        return None

    proxy.plan = plan
    with pytest.raises(LeaseError, match=r"took the lease s3://.* at the same moment \(process 1 on other\)"):
        directory.lease(clock).__enter__()
    assert directory.stored()["token"] == "t"


def test_a_guard_renews_a_lease_that_is_about_to_expire_and_no_other(
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


def test_a_holder_followed_while_it_renews_does_not_publish(
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
            pytest.fail("it may not publish")
        assert directory.stored()["token"] == "follower"


def test_the_guard_of_one_thread_keeps_no_renewal_back(directory: S3LeaseDirectory, clock: Clock) -> None:
    with directory.lease(clock) as lease, lease.guard():
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lease.renew).result(30)


def test_a_lease_that_cannot_be_read_is_an_error_in_words(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy
) -> None:
    with directory.lease(clock) as lease:
        proxy.plan = lambda _: "403 AccessDenied"
        with pytest.raises(StorageError, match=r"lease\.json: GetObject was denied .*s3:GetObject on"), lease.guard():
            pass


def test_a_lease_that_cannot_be_freed_is_not_held_against_a_run(
    directory: S3LeaseDirectory, clock: Clock, proxy: FaultProxy, tmp_path: Path
) -> None:
    with directory.lease(clock):
        proxy.plan = lambda _: "500"
    assert directory.stored()["pid"]
