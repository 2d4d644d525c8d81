"""S3 by moto on loopback, in a process of its own so that its cost is not charged to the peer.

Writes its address to the file named by the first argument; ends when standard input is closed.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from moto.server import ThreadedMotoServer


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = Path(sys.argv[1])
    written = address.with_suffix(".part")
    written.write_text(f"http://{host}:{port}", encoding="utf-8")
    written.rename(address)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
