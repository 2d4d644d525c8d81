"""The surroundings of a command: time, ids, threads, storage, clients."""

from __future__ import annotations

import pytest

from bucketwheel import plugins
from bucketwheel.aws.retry import retry
from bucketwheel.settings import Settings, StorageSettings
from bucketwheel.storage import Storage
from bucketwheel.system import System, SystemClock, system, use
from bucketwheel.testing.clock import Clock


def test_use_replaces_system_for_the_block_and_its_threads() -> None:
    before = system()
    with use(System(Clock())) as replacement, replacement.pool(2) as pool:
        assert list(pool.map(lambda _: system(), range(4))) == [replacement] * 4
    assert system() is before
    with before.pool(1) as pool:
        assert pool.submit(system).result() is before


def test_new_ids_are_different_hex_digits() -> None:
    one, other = system().new_id(), system().new_id()
    assert one != other
    assert len(one) == len(other) == len(f"{int(one, 16):032x}")


def test_retry_waits_with_the_clock_of_the_command() -> None:
    clock, failures = Clock(), [ValueError(), ValueError()]

    def action() -> str:
        if failures:
            raise failures.pop()
        return "done"

    before = clock.monotonic()
    with use(System(clock)):
        assert retry(action, lambda _: True, [5, 7]) == "done"
    assert clock.monotonic() - before == 12


def test_storage_uses_replaced_backend_of_scheme(tmp_path: object) -> None:
    class Memory:
        def read(self, path: str) -> tuple[bytes, str]:
            return path.encode(), "1"

    with use(System(storages={"s3": lambda _: Memory()})):
        assert Storage(StorageSettings()).read("s3a://bucket/key") == b"s3://bucket/key"
        assert not Storage(StorageSettings()).exists(f"{tmp_path}/no file")


def test_aws_clients_are_replaced() -> None:
    pytest.importorskip("boto3")
    from bucketwheel.aws import clients

    made: object = object()
    with use(System(client=lambda _: made)):
        assert clients.client("glue", Settings().aws) is made


def test_plugins_use_replaced_backend() -> None:
    with use(System(backends={("engines", "arrow"): lambda settings: settings.engine})):
        assert plugins.engine(Settings()) == "arrow"  # type: ignore[comparison-overlap]
    assert SystemClock().now().tzinfo is not None
