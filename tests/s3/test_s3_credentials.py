"""Credentials that end in the middle of a run, are missing, or do not reach everywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from faults.proxy import FaultProxy, Request

from bucketwheel.sample import Sample
from project import WIDE, Project
from s3_support import Bucket, local_hashes


class Role:
    """Hands out credentials as a container's role does; each set is good for some requests only."""

    def __init__(self) -> None:
        self.given = 0
        self.good_for_seconds = 3600.0
        role = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                role.given += 1
                ends = datetime.now(UTC) + timedelta(seconds=role.good_for_seconds)
                answer = {
                    "AccessKeyId": f"AKID{role.given}",
                    "SecretAccessKey": "secret",
                    "Token": f"token-{role.given}",
                    "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/role"


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[Role]:
    made = Role()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def key_of(request: Request) -> str:
    return request.headers["authorization"].partition("Credential=")[2].partition("/")[0]


def test_credentials_about_to_end_are_renewed_before_they_do(
    bucket: Bucket, tmp_path: Path, clean: Sample, role: Role, proxy: FaultProxy, current: Project
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    # botocore asks for new ones some minutes before the end, so these are renewed all the time.
    role.good_for_seconds = 700
    project.run()
    used = {key_of(one.request) for one in proxy.answered}
    assert len(used) > 5
    assert bucket.hashes() == local_hashes(current.target)


def test_credentials_refused_as_expired_are_looked_for_anew_and_the_run_goes_on(
    bucket: Bucket, tmp_path: Path, clean: Sample, role: Role, proxy: FaultProxy, current: Project
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    uses: dict[str, int] = {}

    def plan(request: Request) -> str | None:
        key = key_of(request)
        uses[key] = uses.get(key, 0) + 1
        return "400 ExpiredToken" if uses[key] > 20 else None

    proxy.plan = plan
    project.run()
    assert 3 < role.given <= len(proxy.answered) / 10
    assert any(one.status == 400 for one in proxy.answered)
    assert bucket.hashes() == local_hashes(current.target)
    assert bucket.uploads() == []


def test_credentials_that_stay_expired_end_the_run_in_words_and_it_can_be_resumed(
    bucket: Bucket, tmp_path: Path, clean: Sample, proxy: FaultProxy, current: Project
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    proxy.plan = lambda r: "400 ExpiredToken" if r.key.endswith("000001_0.snappy.parquet") else None
    failed = project.cli("run", WIDE)
    assert failed.exit_code == 1
    assert "PutObject: the credentials have expired (as planned); renew them, then resume" in failed.stderr
    assert "--resume" in failed.stderr
    assert not project.catalog.exists()
    proxy.plan = lambda _: None
    assert project.cli("run", WIDE, "--resume", "last").exit_code == 0
    assert bucket.hashes() == local_hashes(current.target)


def test_a_run_without_credentials_says_so_and_writes_nothing(
    bucket: Bucket, tmp_path: Path, clean: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    result = project.cli("run", WIDE)
    assert result.exit_code == 1
    assert "no AWS credentials were found" in result.stderr
    assert bucket.keys("out/") == []


@pytest.mark.parametrize(
    ("method", "prefix", "said"),
    [
        (
            "GET",
            "in/opus/infobase_attributes/raw_input/",
            "GetObject was denied .* s3:GetObject on arn:aws:s3:::{}/in/",
        ),
        ("PUT", "out/infobase_attributes/ibe_02/", "PutObject was denied .* s3:PutObject on arn:aws:s3:::{}/out/"),
        ("PUT", "out/_bucketwheel/", "lease.json: PutObject was denied .* s3:PutObject on arn:aws:s3:::{}/out/_"),
    ],
)
def test_no_permission_on_one_prefix_names_action_and_object(
    bucket: Bucket, tmp_path: Path, clean: Sample, proxy: FaultProxy, method: str, prefix: str, said: str
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    proxy.plan = lambda r: "403 AccessDenied" if r.method == method and r.key.startswith(prefix) else None
    result = project.cli("run", WIDE)
    assert result.exit_code == 1
    import re

    assert re.search(said.format(bucket.name), result.stderr), result.stderr
    assert not project.catalog.exists()
    assert bucket.uploads() == []
