"""The whole pipeline by Compose as a user types it, and what it published read back: `python -m integration.e2e`.

Further arguments go to the application: `python -m integration.e2e --set buckets.count=4`.
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
    """End with the exit code of the application where it failed, and with 1 where a table is not as it should be."""
    stack = Stack()
    start = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True)

    try:
        for dataset in DATASETS:
            arguments = [dataset, "--env", "compose", *sys.argv[1:]]
            tell(f"$ {shlex.join([*stack.command, 'run', '--rm', 'app', *arguments])}")
            exit_code = stack.run_app(arguments)
            tell(f"exit code {exit_code}")
            if exit_code:
                stack.show_logs()
                sys.exit(exit_code)
        tell(f"reached at {' and '.join(stack.published())} alone")
        account = Account(stack.url("localstack", 4566), stack.url("moto", 5000))
        for line in compare(account):
            tell(line)
        tell("every row and every table is as it should be")
    except subprocess.CalledProcessError:
        stack.show_logs()
        raise
    finally:
        stack.down()


main()
