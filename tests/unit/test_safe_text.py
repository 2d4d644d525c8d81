"""Text of unknown origin on terminals, in logs, notifications and reports."""

from __future__ import annotations

import io
import logging
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketwheel import cli
from bucketwheel.cli import terminal
from bucketwheel.contracts import Progress
from bucketwheel.errors import SchemaError, StorageError
from bucketwheel.formatting import html_table
from bucketwheel.formatting import table as plain_table
from bucketwheel.monitoring import notification
from bucketwheel.monitoring.progress_bars import ProgressBars
from bucketwheel.pipeline.log import log_failure, logged
from bucketwheel.runs.summary import Failure
from bucketwheel.safe_text import one_line, several_lines

STYLE = re.compile(r"\x1b\[(?:\d+)?m")
HOSTILE = "a\x1b[31m\x1b]0;title\x07\r\nerror: forged\u202egnp.\u200b\x9b2J\x7f[/][red]" + chr(0xD800) + chr(0xDCFF)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def invisible(text: str) -> set[str]:
    """Return the characters that must not reach a terminal."""
    return {each for each in text if each != "\n" and unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("person_id", "person_id"),
        ("Größe 尺寸 🎂\u00a0s", "Größe 尺寸 🎂\u00a0s"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202egnp", r"\u202egnp"),
        ("a\u200bb\ufeff", r"a\u200bb\ufeff"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        (chr(0xDCFF), r"\xff"),
        (chr(0xD800), r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("[red]", "[red]"),
    ],
)
def test_one_line_escapes_invisible_characters(text: str, shown: str) -> None:
    assert one_line(text) == shown


@given(st.text(st.characters(codec=None)))
def test_escaped_text_is_printable_utf8(text: str) -> None:
    for escape in (one_line, several_lines):
        shown = escape(text)
        shown.encode()
        # Marks of Arabic numbers have no width of their own, but are visible.
        assert all(
            unicodedata.name(each).startswith(("ARABIC", "SYRIAC", "KAITHI")) or ord(each) > 0x10000
            for each in invisible(shown)
        ), shown
    assert "\n" not in one_line(text)
    assert several_lines(text).count("\n") == text.count("\n")


@pytest.mark.parametrize("color", [None, True])
def test_echo_lets_no_escape_of_a_name_through(monkeypatch: pytest.MonkeyPatch, color: bool | None) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    marked = f"{HOSTILE} \ufdd0forged\ufddf"
    terminal.echo(f"warning: {marked}\n{terminal.paint(marked, 'good')}", color=color)
    terminal.echo(terminal.table(("run", "status"), [(marked, "failed"), ("x", marked)]), color=color)
    terminal.echo_whole(marked)
    text = stream.getvalue()
    assert not invisible(STYLE.sub("", text))
    assert r"a\x1b[31m" in text
    assert r"\ufdd0forged\ufddf" in text


def test_cells_of_tables_stay_on_one_line() -> None:
    assert plain_table(("a\nb",), [(HOSTILE,)]).count("\n") == 2
    assert terminal.table(("a",), [(HOSTILE,)]).count("\n") == 2
    assert not invisible(html_table((HOSTILE,), [(HOSTILE,)], HOSTILE))


def test_error_text_escapes_control_characters_only() -> None:
    error = SchemaError(f"two\nlines {HOSTILE}").found_with([StorageError(HOSTILE)])
    assert not invisible(str(error))
    assert str(error).startswith("two\nlines")


def test_usage_error_shows_words_of_command_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["plan", "--\x1b]0;x"], ["plan", "--color", "\x1b]0;x"], ["\x1b]0;x"], ["plan", "a", "\u202eb"]):
        with pytest.raises(SystemExit):
            cli.main(words)
        assert not invisible(capsys.readouterr().err)


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_progress_shows_names_as_they_are(kind: Callable[[], io.StringIO]) -> None:
    stream = kind()
    with ProgressBars(stream, color=False) as bars:
        for state in ("started", "warning", "finished"):
            bars(Progress(HOSTILE, "[red]stage[/]", state, message=HOSTILE))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    # Rich moves the cursor itself.
    assert not invisible(text) - {"\r"}
    assert "[red]stage[/]" in text
    assert "error: forged" not in [line.strip() for line in text.splitlines()]


def test_logged_names_cannot_forge_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "bucketwheel")
    logged(lambda _: None)(Progress(HOSTILE, "size", "warning", table=HOSTILE, message=HOSTILE))
    with pytest.raises(StorageError), log_failure(HOSTILE):
        raise StorageError("x")
    assert not any(invisible(text) or "\n" in text for text in caplog.messages)


def test_notification_is_plain_text() -> None:
    subject, text = notification.failed_start_notification(HOSTILE, HOSTILE * 5, Failure(kind="X", message=HOSTILE))
    assert subject.isascii()
    assert subject.isprintable()
    assert len(subject) <= 100
    assert not invisible(text)


def test_commands_print_through_the_terminal_module_only() -> None:
    sources = {path.name: path.read_text() for path in Path(cli.__file__).parent.glob("*.py")}
    printing = re.compile(r"click\.s?echo|\bprint\(|std(?:out|err)\.write")
    # `completion` prints a script of click, and the confirmations have no names in them.
    assert {name for name, text in sources.items() if printing.search(text)} == {"terminal.py", "completing.py"}
