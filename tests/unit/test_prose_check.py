"""`make prose` finds forbidden words in every kind of text, and names the replacement."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prose_check.__main__ import BASELINE, PATTERNS, ROOT, WORDS, checked_files, main

CLEAN = '"""Return nothing."""\n\n# S3 lists keys in byte order.\nLIMIT = 1\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for path in (WORDS, BASELINE):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / WORDS, tmp_path / WORDS)
    (tmp_path / BASELINE).touch()
    for directory in ("conf", "app", "tests"):
        (tmp_path / directory).mkdir()
    (tmp_path / "app" / "module.py").write_text(CLEAN)
    shutil.copyfile(ROOT / "LICENSE", tmp_path / "page.md")
    return tmp_path


def test_check_of_clean_text_succeeds(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "page.md").write_text("# Page\n\nBucketwheel verifies every file, `whoever` wrote it.\n")
    assert main(checkout) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("path", "planted", "line", "word", "advice"),
    [
        ("page.md", "Whoever holds the\nlease writes.\n", 1, "Whoever", "use the actor"),
        ("docs/a/b.md", "# Page\n\nThe run is noted in the\nbooks.\n", 3, "the books", "use run metadata"),
        ("conf/base.yaml", "a: 1\nb: 2 # tables of somebody else's\n", 2, "somebody else's", "use another process"),
        ("app/module.py", CLEAN + "# Every file\n# is looked\n# at.\n", 6, "is looked at", "use check"),
        (
            "app/module.py",
            f'{CLEAN}def f():\n    """Do.\n\n    Retry patiently.\n    """\n',
            8,
            "patiently",
            "retries",
        ),
        ("app/module.py", CLEAN + "raise OSError(f'{LIMIT} of persons refused')\n", 5, "persons", "use people"),
        ("app/module.py", CLEAN + "print(f'wrote {LIMIT} more rows')\n", 5, "¤ more rows", "use {counted("),
        ("tests/test_a.py", "def test_told_failure() -> None: ...\n", 1, "told_failure", "use decode_error"),
        ("tests/test_a.py", "class PieceStore: ...\n", 1, "PieceStore", "use SpillBuffer"),
        ("page.md", "At this point in time it works.\n", 1, "At this point in time", "redundancy"),
    ],
)
def test_check_reports_file_line_word_and_replacement(
    checkout: Path, capsys: pytest.CaptureFixture[str], path: str, planted: str, line: int, word: str, advice: str
) -> None:
    (checkout / "page.md").unlink()
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout / path).write_text(planted)
    assert main(checkout) == 1
    findings = capsys.readouterr().out.splitlines()
    assert any(finding.startswith(f"{path}:{line}: {word!r}: ") and advice in finding for finding in findings), (
        findings
    )


def test_check_of_real_page_with_planted_sentence_fails(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "s3.md").read_text("utf-8")
    (checkout / "docs" / "page.md").write_text(f"{text}\nRows that got lost are counted.\n")
    assert main(checkout) == 1
    last = capsys.readouterr().out.splitlines()[-2:]
    assert any(line.startswith(f"docs/page.md:{text.count(chr(10)) + 2}: 'got lost': use lost") for line in last)


def test_checked_files_leave_out_baseline_only(checkout: Path) -> None:
    (checkout / BASELINE).write_text("page.md\n")
    assert list(checked_files(checkout)) == [Path("app/module.py")]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern_matches_files_of_checkout(pattern: str) -> None:
    assert any(path.is_file() for path in ROOT.glob(pattern))
