"""Run `bucketwheel` commands in forks of a warm process and strike at one of their calls; see `call_faults.py`.

Each line of JSON on stdin is an order: the words of the command and the fault. The answer is the exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

import call_faults

from bucketwheel import api, cli, plugins
from bucketwheel.settings import STAGES


def child(order: dict[str, Any]) -> int:
    for place, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), place)
    os.chdir(order["directory"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["fault"]:
        call_faults.arm(order["below"], order["record"], *order["fault"])
    code: Any = 0
    try:
        cli.main(order["words"])
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code or 0)


def main() -> None:
    del os.environ["LD_PRELOAD"]
    for stage in STAGES:
        plugins.stage(stage)
    for name in ("bucketwheel.engines.arrow", "bucketwheel.catalogs.duckdb", api.__name__):
        __import__(name)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(child(order))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
