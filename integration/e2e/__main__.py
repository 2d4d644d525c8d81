"""Run the whole pipeline with Compose and verify the published tables: `python -m integration.e2e`.

The application receives further arguments: `python -m integration.e2e --set buckets.count=4`.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time

from integration.e2e.compose import Stack
from integration.e2e.tables import Account, compare

DATASETS = ("infobase_attributes", "addressable_ids")


def main() -> None:
    """Exit with the code of the application if it failed, and with 1 if a table differs from the source."""
    stack = Stack()
    start = time.monotonic()

    def echo(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    try:
        for dataset in DATASETS:
            arguments = [dataset, "--env", "compose", *sys.argv[1:]]
            echo(f"$ {shlex.join([*stack.command, 'run', '--rm', 'app', *arguments])}")
            exit_code = stack.run_app(arguments)
            echo(f"exit code {exit_code}")
            if exit_code:
                stack.show_logs()
                sys.exit(exit_code)
        echo(f"reachable only at {' and '.join(stack.published())}")
        account = Account(stack.url("localstack", 4566), stack.url("moto", 5000))
        for line in compare(account):
            echo(line)
        echo("all rows and tables are correct")
    except subprocess.CalledProcessError:
        stack.show_logs()
        raise
    finally:
        stack.down()


main()
