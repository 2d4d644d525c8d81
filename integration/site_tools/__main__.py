"""`python -m integration.site_tools DIRECTORY`"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from .build import make_site

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with tempfile.TemporaryDirectory(prefix="bucketwheel-site-") as work:
        make_site(Path(sys.argv[1]), Path(work))
    print(Path(sys.argv[1]) / "index.html")
