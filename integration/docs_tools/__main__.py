"""`python -m integration.docs_tools [--check]`: write the generated parts, or print which pages are stale."""

from __future__ import annotations

import sys
from pathlib import Path

from .makers import MAKERS
from .parts import pages, renewed

ROOT = Path(__file__).parents[2]


def main() -> int:
    """Write or compare the pages; return 1 if `--check` finds a stale page."""
    stale = [page for page in pages(ROOT) if renewed(page.read_text("utf-8"), MAKERS) != page.read_text("utf-8")]
    for page in stale:
        print(page.relative_to(ROOT))
        if "--check" not in sys.argv:
            page.write_text(renewed(page.read_text("utf-8"), MAKERS), "utf-8")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
