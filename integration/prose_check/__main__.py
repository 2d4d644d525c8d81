"""`python -m integration.prose_check [ROOT]`: print forbidden words; exit with 1 if there are any."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from .rules import Style

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/**/*.md", "conf/*", "app/**/*.py", "tests/**/*.py", "integration/**/*.py")
WORDS = Path("docs/style-words.yaml")
# Files whose language still has to be revised, one path a line; it only ever gets shorter.
BASELINE = Path("integration/prose_check/baseline.txt")


def checked_files(root: Path) -> Iterator[Path]:
    """Yield the files of a checkout that are checked, relative to it."""
    baseline = {Path(line) for line in (root / BASELINE).read_text("utf-8").split()}
    skipped = Style.read(root / WORDS).exempt | baseline
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            relative = path.relative_to(root)
            if path.is_file() and relative not in skipped:
                yield relative


def main(root: Path) -> int:
    """Print every finding as `file:line: word: advice`."""
    style = Style.read(root / WORDS)
    findings = [finding for path in checked_files(root) for finding in style.check(root / path, path)]
    for finding in findings:
        print(finding)
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
