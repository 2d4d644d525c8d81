"""Drivers that end during a run on a cluster: killed, interrupted, or refused."""

from __future__ import annotations

import os
import random
import re
import signal
from pathlib import Path

import pytest
from spark_cluster import Daemon, named, send, spark_environment, until
from spark_scene import BOTH, QUICK, SMALL, Scene, submit_job

from project import WIDE, environment

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.crash, pytest.mark.xdist_group("cluster")]


@pytest.fixture
def free(scene: Scene) -> Scene:
    """A cluster without sessions that hold cores."""
    scene.server.leave()
    scene.cluster.idle()
    return scene


def in_gather(scene: Scene, seed: int) -> Daemon:
    """Start a job and wait until it has written some files."""
    driver = submit_job(scene.cluster, scene.project)
    count = random.Random(seed).randint(1, 60)
    until(lambda: len(scene.files()) >= count or driver.process.poll() is not None, "gather")
    assert driver.process.poll() is None, driver.text()
    return driver


def applications(scene: Scene) -> int:
    return scene.cluster.master.text().count("Registered app")


def go_on_with_arrow(scene: Scene) -> None:
    done = scene.project.cli("run", WIDE, "--resume", "last", "--engine", "arrow")
    assert done.exit_code == 0, done.stderr
    scene.check()


def test_second_driver_takes_over_after_driver_and_jvm_die(free: Scene) -> None:
    driver = in_gather(free, 0)
    driver.end()
    assert free.manifest().status == "running"
    free.cluster.idle()
    free.begin("--resume", "last")
    free.finished()


def test_arrow_engine_takes_over_after_driver_is_killed(free: Scene) -> None:
    driver = in_gather(free, 1)
    (python,) = named(driver.family(), "job.py")[1:]
    send(signal.SIGKILL, [python])
    assert driver.process.wait(60) != 0
    assert free.manifest().status == "running"
    go_on_with_arrow(free)


def test_killed_jvm_is_recorded_in_manifest(free: Scene) -> None:
    driver = in_gather(free, 2)
    python = named(driver.family(), "job.py")[1:]
    assert python
    driver.process.kill()
    until(lambda: not any(process.is_running() for process in python), "end of Python")
    manifest = free.manifest()
    assert (manifest.status, "JVM of the driver has ended" in (manifest.error or "")) == ("failed", True)
    go_on_with_arrow(free)


def test_interrupt_names_resume_command(free: Scene) -> None:
    driver = in_gather(free, 3)
    python = named(driver.family(), "job.py")[1:]
    assert python
    send(signal.SIGINT, python)
    assert driver.process.wait(60) != 0
    driver.end()
    (run_id,) = free.project.run_ids()
    assert re.search(rf"JobFailedError: interrupted\nTo resume: .* --resume {run_id}", driver.text())
    assert free.manifest().status == "failed"
    go_on_with_arrow(free)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_whole_driver_is_recorded_in_manifest(free: Scene, number: signal.Signals) -> None:
    driver = in_gather(free, 3)
    python = named(driver.family(), "job.py")[1:]
    assert python
    # As terminals and platforms do it: the JVM, too, ends, perhaps before it has passed on the output of Python.
    os.killpg(driver.process.pid, number)
    assert driver.process.wait(60) != 0
    until(lambda: not any(process.is_running() for process in python), "end of Python")
    assert free.manifest().status == "failed"
    assert not list(free.project.target.glob("_bucketwheel/*/lease.json"))


def test_second_simultaneous_run_is_refused(free: Scene, tmp_path: Path) -> None:
    defaults = {"spark.master": free.cluster.url, **SMALL, **BOTH, **QUICK}
    (tmp_path / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in defaults.items()))
    before = applications(free)
    both = [
        Daemon(
            tmp_path / f"{number}.log",
            free.project.command("run", WIDE),
            environment(**spark_environment(SPARK_CONF_DIR=str(tmp_path))),
            tmp_path,
        )
        for number in range(2)
    ]
    free.cluster.drivers += both
    codes = [one.process.wait(120) for one in both]
    assert sorted(codes) == [0, 4], [one.text()[-2000:] for one in both]
    assert "error: another run holds the lease" in both[codes.index(4)].text()
    assert applications(free) == before + 1
    free.check()


def test_job_without_core_settings_uses_whole_cluster(free: Scene) -> None:
    third = free.cluster.worker()
    third.ready()
    try:
        # A parallelism that a platform sets is nobody's number of cores.
        driver = submit_job(free.cluster, free.project, {"spark.default.parallelism": "5"})
        assert driver.process.wait(180) == 0, driver.text()[-3000:]
    finally:
        free.cluster.remove(third)
    free.check()
    # Four tasks for each of three cores, in gather and in verify.
    assert re.findall(r"Adding task set \d+\.0 with (\d+) tasks", driver.text())[1:3] == ["12", "12"]
