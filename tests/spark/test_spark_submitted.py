"""The session of a `spark-submit` job on one machine: listening addresses and settings."""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from spark_cluster import HOME, Daemon, until

from project import environment

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.usefixtures("java")]

Submit = Callable[..., tuple[Daemon, dict[str, Any]]]


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Submit]:
    """Start a session by `spark-submit --master local[1]` without setting addresses."""
    started: list[Daemon] = []
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)

    def start(target: str = "out", **more: str) -> tuple[Daemon, dict[str, Any]]:
        answer = tmp_path / "answer"
        script = Path(__file__).with_name("session_script.py")
        command = [f"{HOME}/bin/spark-submit", "--master", "local[1]", str(script), target, str(answer)]
        own = environment(PYSPARK_PYTHON=sys.executable, SPARK_HOME=str(HOME), **more)
        driver = Daemon(tmp_path / "log", command, own, tmp_path)
        started.append(driver)
        until(lambda: answer.exists() or driver.process.poll() is not None, "the session", 180)
        assert answer.exists(), driver.text()[-3000:]
        return driver, json.loads(answer.read_text())

    yield start
    for driver in started:
        driver.end()


def listening(driver: Daemon) -> set[str]:
    """Return the addresses on which processes of the driver listen."""
    connections = [one for process in driver.family() for one in process.net_connections(kind="inet")]
    return {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}


def test_session_listens_on_loopback_only(submit: Submit) -> None:
    driver, _ = submit()
    ports = listening(driver)
    assert ports
    addresses = map(ipaddress.ip_address, ports)
    assert all((getattr(one, "ipv4_mapped", None) or one).is_loopback for one in addresses), ports


def test_session_keeps_hadoop_settings_of_platform(submit: Submit, tmp_path: Path) -> None:
    theirs = {"fs.s3.impl": "org.example.TheirFileSystem", "fs.s3a.endpoint.region": "eu-north-1"}
    entries = "".join(
        f"<property><name>{key}</name><value>{value}</value></property>" for key, value in theirs.items()
    )
    (tmp_path / "hadoop").mkdir()
    (tmp_path / "hadoop" / "core-site.xml").write_text(f"<configuration>{entries}</configuration>")
    more = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": "us-east-1"}
    _, settings = submit("s3://bucket/out", HADOOP_CONF_DIR=str(tmp_path / "hadoop"), **more)
    assert settings == {**theirs, "fs.s3a.endpoint": "http://127.0.0.1:9"}
