"""Start runs from a warm process, kill them after a given time, and print how they ended.

Each line of JSON on stdin is an order: the command, its project, and after how many seconds to kill it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bucketwheel import plugins
from bucketwheel.pipeline.rollback import rollback
from bucketwheel.settings import STAGES
from bucketwheel.storage import durable
from runs_support import Case

CASE: dict[str, Any] = {"tables": 3, "rows": 4_000, "buckets": 32}


def work(order: dict[str, Any]) -> None:
    case = Case(Path(order["root"]), **CASE, changes=order["changes"])
    if order["action"] == "rollback":
        rollback(case.settings(), order["run_id"])
    else:
        case.run(resume=order["resume"], snapshot_dt=order["snapshot_dt"])


def child(order: dict[str, Any]) -> int:
    # What is killed is a process and not the machine, so nothing is seen of whether data reached the disk.
    durable.sync_file_system = lambda descriptor: True
    os.fsync = lambda fd: None
    try:
        work(order)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        return 1
    return 0


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os._exit(child(order))
    descriptor = os.pidfd_open(pid)
    ended, _, _ = select.select([descriptor], [], [], order["kill_after"])
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(descriptor)
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - begun}


def main() -> None:
    for stage in STAGES:
        plugins.stage(stage)
    for name in ("bucketwheel.engines.arrow", "bucketwheel.catalogs.duckdb"):
        __import__(name)
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
