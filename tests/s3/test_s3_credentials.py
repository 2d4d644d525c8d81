"""Credentials that expire during a run, are missing, or lack permissions."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from faults.proxy import FaultProxy, Request

from bucketwheel.sample import Sample
from project import WIDE, Project
from s3_support import Bucket


class Role:
    """Serves credentials as a container role does, and counts the sets it has issued."""

    def __init__(self) -> None:
        self.issued = 0
        self.lifetime_seconds = 3600.0
        role = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                role.issued += 1
                expires = datetime.now(UTC) + timedelta(seconds=role.lifetime_seconds)
                response = {
                    "AccessKeyId": f"AKID{role.issued}",
                    "SecretAccessKey": "secret",
                    "Token": f"token-{role.issued}",
                    "Expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(response).encode())

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/role"


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> Iterator[Role]:
    server = Role()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.02,))
    thread.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.url)
    yield server
    server.server.shutdown()
    server.server.server_close()
    thread.join()


def access_key_of(request: Request) -> str:
    return request.headers["authorization"].partition("Credential=")[2].partition("/")[0]


def test_run_renews_credentials_before_they_expire(
    bucket: Bucket, tmp_path: Path, clean: Sample, role: Role, proxy: FaultProxy, current: Project
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    # botocore renews credentials minutes before they expire, so it renews these on every use.
    role.lifetime_seconds = 700
    project.run()
    used = {access_key_of(one.request) for one in proxy.answered}
    assert len(used) > 5
    assert bucket.hashes() == current.hashes()


def test_run_reloads_credentials_refused_as_expired(
    bucket: Bucket, tmp_path: Path, clean: Sample, role: Role, proxy: FaultProxy, current: Project
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    uses: dict[str, int] = {}

    def plan(request: Request) -> str | None:
        key = access_key_of(request)
        uses[key] = uses.get(key, 0) + 1
        return "400 ExpiredToken" if uses[key] > 20 else None

    proxy.plan = plan
    project.run()
    assert 3 < role.issued <= len(proxy.answered) / 10
    assert any(one.status == 400 for one in proxy.answered)
    assert bucket.hashes() == current.hashes()
    assert bucket.uploads() == []


def test_run_with_expired_credentials_fails_and_can_be_resumed(
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
    assert bucket.hashes() == current.hashes()


def test_run_without_credentials_fails_and_writes_nothing(
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
    ("method", "prefix", "message"),
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
def test_denied_prefix_names_action_and_object(
    bucket: Bucket, tmp_path: Path, clean: Sample, proxy: FaultProxy, method: str, prefix: str, message: str
) -> None:
    project = bucket.project(tmp_path / "p", clean)
    proxy.plan = lambda r: "403 AccessDenied" if r.method == method and r.key.startswith(prefix) else None
    result = project.cli("run", WIDE)
    assert result.exit_code == 1
    assert re.search(message.format(bucket.name), result.stderr), result.stderr
    assert not project.catalog.exists()
    assert bucket.uploads() == []
