"""Run several jobs in one driver, so that a fault test costs the time of a run and not the start of a JVM.

For each `<number>.order` (JSON with the arguments and the Spark settings; other settings restart the session), do
what `app/job.py` does. An order without arguments ends the session. `<number>.answer` gets the result of the run.
"""

from __future__ import annotations

import io
import json
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession

from bucketwheel.cli.job import main as job
from bucketwheel.engines import spark_sizing


def settle(given: dict[str, str], now: dict[str, str]) -> None:
    """Make the next session start with the given settings and without those of `now`."""
    session = SparkSession._instantiatedSession
    if session is not None:
        session.stop()
    SparkContext._ensure_initialized()
    machine: Any = SparkContext._jvm
    system = machine.java.lang.System
    for name in now:
        system.clearProperty(name)
    for name, value in given.items():
        system.setProperty(name, value)


def carry_out(arguments: list[str]) -> dict[str, Any]:
    out, err, error = io.StringIO(), io.StringIO(), ""
    with redirect_stdout(out), redirect_stderr(err):
        try:
            job(arguments)
        except BaseException as raised:  # noqa: BLE001
            error = f"{type(raised).__name__}: {raised}"
    return {"error": error, "out": out.getvalue(), "err": err.getvalue()}


def main() -> None:
    directory = Path(sys.argv[1])
    # Otherwise, the dictionaries of this small sample leave one task of scatter for each core, too few to lose some.
    spark_sizing._BYTES_PER_HEADER_BYTE = 1
    number, settings = 0, dict[str, str]()
    while True:
        order = directory / f"{number}.order"
        if not order.exists():
            time.sleep(0.01)
            continue
        given = json.loads(order.read_text())
        if given["settings"] != settings or not given["arguments"]:
            settle(given["settings"], settings)
            settings = given["settings"]
        answer = carry_out(given["arguments"]) if given["arguments"] else {"error": "", "out": "", "err": ""}
        aside = directory / "answer"
        aside.write_text(json.dumps(answer))
        aside.rename(directory / f"{number}.answer")
        number += 1


if __name__ == "__main__":
    main()
