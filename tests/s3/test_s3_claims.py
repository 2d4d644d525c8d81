"""Publishing and deleting one run at the same time on S3: the storage refuses the second writer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from faults.proxy import FaultProxy, Request

from bucketwheel.errors import ChangedError, SelectionError, StorageError
from bucketwheel.runs.claims import StoredClaim, claim_deleting, claim_shown, give_up_deletion, read_claim
from bucketwheel.runs.store import RunStore
from bucketwheel.storage import Storage
from s3_support import Bucket

RUN = "2025-01-31-20250201T000000-abcdef"
KEY = f"out/_bucketwheel/people/runs/{RUN}"
AT = datetime(2025, 2, 1, tzinfo=UTC)


@pytest.fixture
def runs(bucket: Bucket, storage: Storage) -> RunStore:
    """A store with one run."""
    bucket.put(f"{KEY}/manifest.json", b"{}")
    return RunStore(storage, bucket.uri("out"))


def claim(runs: RunStore) -> StoredClaim:
    return read_claim(runs, "people", RUN)


def state(runs: RunStore) -> str:
    stored = claim(runs).claim
    return stored.state if stored else ""


def test_deletion_is_refused_after_publication_began(runs: RunStore) -> None:
    for _ in range(2):
        before = claim(runs)
        claim_shown(runs, "people", RUN, AT)
        with pytest.raises(ChangedError):
            claim_deleting(runs, "people", RUN, before, AT)
        assert state(runs) == "shown"


@pytest.mark.parametrize("earlier", [False, True])
def test_publication_is_refused_after_deletion_began(runs: RunStore, earlier: bool) -> None:
    if earlier:
        claim_shown(runs, "people", RUN, AT)
    claim_deleting(runs, "people", RUN, claim(runs), AT)
    with pytest.raises(SelectionError, match=f"run {RUN} is being deleted: .*expire people`, then start") as caught:
        claim_shown(runs, "people", RUN, AT)
    assert caught.value.exit_code == 2
    assert state(runs) == "deleting"


@pytest.mark.parametrize("earlier", [False, True])
def test_publication_is_refused_after_deletion_ended(runs: RunStore, earlier: bool) -> None:
    if earlier:
        claim_shown(runs, "people", RUN, AT)
    claim_deleting(runs, "people", RUN, claim(runs), AT)
    runs.delete_manifest("people", RUN)
    runs.clear("people", RUN)
    assert state(runs) == ""
    with pytest.raises(SelectionError, match=f"run {RUN} has been deleted by `bucketwheel expire`"):
        claim_shown(runs, "people", RUN, AT)


@pytest.mark.parametrize("earlier", ["", "shown"])
def test_deletion_given_up_allows_publication(runs: RunStore, earlier: str) -> None:
    if earlier:
        claim_shown(runs, "people", RUN, AT)
    before = claim(runs)
    own = claim_deleting(runs, "people", RUN, before, AT)
    give_up_deletion(runs, "people", RUN, before, own)
    assert state(runs) == (earlier or "free")
    claim_shown(runs, "people", RUN, AT)


def test_deletion_that_another_command_continues_is_not_given_up(runs: RunStore) -> None:
    before = claim(runs)
    own = claim_deleting(runs, "people", RUN, before, AT)
    claim_deleting(runs, "people", RUN, claim(runs), AT)
    give_up_deletion(runs, "people", RUN, before, own)
    assert state(runs) == "deleting"


def test_claim_with_lost_response_succeeds(runs: RunStore, proxy: FaultProxy) -> None:
    def lose_once(request: Request) -> str | None:
        if request.method == "PUT":
            proxy.plan = lambda _: None
            return "lost"
        return None

    for _ in range(2):
        proxy.plan = lose_once
        claim_shown(runs, "people", RUN, AT)
    assert state(runs) == "shown"


def test_run_claims_with_three_requests(runs: RunStore, proxy: FaultProxy) -> None:
    for _ in range(2):
        claim_shown(runs, "people", RUN, AT)
    assert [one.request.method for one in proxy.answered] == ["PUT", "GET", "PUT"]


def test_damaged_claim_is_named(runs: RunStore, bucket: Bucket) -> None:
    bucket.put(f"{KEY}/claim.json", b"{")
    with pytest.raises(StorageError, match=r"claim\.json: is not the claim of a run"):
        claim(runs)


def test_clear_deletes_claim_last(runs: RunStore, bucket: Bucket, proxy: FaultProxy) -> None:
    claim_deleting(runs, "people", RUN, claim(runs), AT)
    bucket.put(f"{KEY}/buckets/0.json")
    bucket.put(f"{KEY}/summary.json")
    proxy.answered.clear()
    runs.clear("people", RUN)
    assert bucket.keys(KEY) == []
    deleted = [one.request for one in proxy.answered if one.request.method in ("DELETE", "POST")]
    assert deleted[-1].key == f"{KEY}/claim.json"
