"""Width and color of what people read in a terminal, and JSON for programs."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys

import click
import pytest

from bucketwheel import cli
from bucketwheel.cli import terminal
from project import WIDE, Project

RUN = "2025-10-22-20261123T202856Z-907058"
ROWS = [(RUN, "people", "finished", "discover,split,size", "1,200"), (RUN, "people", "failed", "discover", "-")]
HEADER = ("run", "dataset", "status", "stages", "rows")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def as_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Terminal:
    """Make stdout a terminal; pytest replaces it between a fixture and its test."""
    stream = Terminal()
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def lines_of(text: str) -> list[str]:
    return click.unstyle(terminal.plain(text)).splitlines()


def test_table_omits_optional_columns_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    as_terminal(monkeypatch, 60)
    lines = lines_of(terminal.table(HEADER, ROWS, ("stages", "dataset")))
    assert [line.split() for line in lines[:1]] == [["run", "dataset", "status", "rows"]]
    assert max(map(len, lines)) <= 60


def test_table_keeps_optional_columns_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    as_terminal(monkeypatch, 120)
    assert lines_of(terminal.table(HEADER, ROWS, ("stages", "dataset")))[0].split() == list(HEADER)


def test_table_without_room_becomes_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    as_terminal(monkeypatch, 60)
    lines = lines_of(terminal.table(HEADER, [(RUN, "people " * 12, "failed", "", "-")]))
    assert lines[0] == RUN
    assert lines[1].split()[:2] == ["dataset", "people"]
    assert max(map(len, lines)) <= 60
    assert " ".join(lines).count("people") == 12


def test_table_paints_status_only(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = as_terminal(monkeypatch, 60)
    terminal.echo(terminal.table(("run", "status"), [("failed-run", "failed"), ("x", "finished")]))
    text = stream.getvalue()
    assert "\x1b[31mfailed\x1b[0m" in text
    assert "failed-run" in text
    assert "\x1b[32mfinished\x1b[0m" in text


def test_text_before_a_command_is_wrapped_between_words() -> None:
    text = f"warning: {'run X is marked as withdrawn ' * 3}until it changes. To allow it: bucketwheel unmark X"
    lines = terminal.fitted(text, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(line.strip() for line in lines) == text
    assert lines[-1] == "  bucketwheel unmark X"


@pytest.mark.parametrize("width", [60, 80, 140])
def test_wrapped_text_keeps_words_and_numbers_with_units(width: int) -> None:
    text = "reads 811.9 kB in 1 slice, writes about 1,234.5 MB in 16 files, people (3 columns) and ends " * 4
    lines = terminal.fitted(text.strip(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(line.strip() for line in lines) == text.strip()
    assert not any(line.endswith(("811.9", "1,234.5", "16", "people", "(3")) for line in lines)


@pytest.mark.parametrize(
    "command",
    [
        f"bucketwheel run people --conf 'my conf' --set buckets.count=8 --set \"a b=c\" --resume {RUN}",
        'duckdb -readonly out/catalog.duckdb -c "SELECT * FROM analytics.bucketed_person LIMIT 5"',
    ],
)
def test_wrapped_command_is_the_same_to_the_shell(command: str) -> None:
    first, *lines = terminal.fitted(
        f"To resume: {command}" if "run" in command else f"query  {command}", 60
    ).splitlines()
    assert first in ("To resume:", "query")
    assert max(map(len, lines)) <= 60
    assert shlex.split("\n".join(lines).replace("\\\n", "")) == shlex.split(command)


def test_wrapped_python_query_compiles() -> None:
    code = "import duckdb; print(duckdb.connect('out/x.duckdb', read_only=True).sql('SELECT * FROM a.b LIMIT 5'))"
    lines = terminal.fitted(f'query  python -c "{code}"', 60).splitlines()
    assert max(map(len, lines)) <= 60
    compile(shlex.split("\n".join(lines[1:]).replace("\\\n", ""))[-1], "query", "exec")


@pytest.mark.parametrize(
    ("choice", "environ", "color"),
    [
        ("auto", {}, None),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"NO_COLOR": "", "FORCE_COLOR": "1"}, True),
        ("auto", {"TERM": "dumb"}, False),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
    ],
)
def test_color_option_wins_over_environment(choice: str, environ: dict[str, str], color: bool | None) -> None:
    assert terminal.chosen_color(choice, environ) is color


@pytest.mark.parametrize("command", [("plan", WIDE), ("runs",), ("doctor",), ("run", WIDE, "--stages", "x")])
def test_output_is_colored_only_if_asked(current: Project, command: tuple[str, ...]) -> None:
    for words, colored in (((), False), (("--color", "always"), True), (("--color=never",), False)):
        result = current.cli(*command, *words)
        assert ("\x1b[" in result.stdout + result.stderr) == colored, (words, result)


@pytest.mark.parametrize("columns", [60, 80])
def test_output_fits_terminal(current: Project, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    for words in ("plan", WIDE), ("runs",), ("tables",), ("show", "last"), ("doctor",), ("config",), ("run", WIDE):
        stream = as_terminal(monkeypatch, columns)
        with contextlib.suppress(SystemExit):
            cli.main([*words, "--conf", str(current.conf)])
        lines = lines_of(stream.getvalue())
        assert len(lines) > 1, words
        for line in lines:
            # A path that is longer than the line cannot be broken.
            assert len(line) <= columns or max(map(len, line.split())) > columns - 25, line


@pytest.mark.parametrize(
    ("words", "kind", "code", "text"),
    [
        (("show", "nope", "--output", "json"), "SelectionError", 2, "no run 'nope'"),
        (("plan", "--output=json", "adressable_ids"), "SelectionError", 2, "no dataset 'adressable_ids'"),
        (("expire", "--output", "json"), "UsageError", 2, "Missing option '--keep'"),
        (("runs", "--output", "json", "--set", "buckets.cuont=3"), "ConfigError", 2, "buckets.cuont"),
    ],
)
def test_json_output_reports_errors_as_json(
    project: Project, words: tuple[str, ...], kind: str, code: int, text: str
) -> None:
    result = project.cli(*words)
    assert (result.exit_code, result.stdout) == (code, "")
    event = json.loads(result.stderr.splitlines()[-1])
    assert (event["level"], event["error"], event["exit_code"]) == ("ERROR", kind, code)
    assert text in event["message"]


def test_json_output_reports_warnings_as_json(current: Project) -> None:
    (run_id,) = current.run_ids()
    (current.target / "_bucketwheel" / WIDE / "runs" / run_id / "manifest.json").write_text("{")
    result = current.cli("runs", "--output", "json")
    (event,) = [json.loads(line) for line in result.stderr.splitlines()]
    assert event["level"] == "WARNING"
    assert "manifest.json" in event["message"]


def test_short_run_id_names_run_by_either_end(current: Project) -> None:
    (run_id,) = current.run_ids()
    shown = current.cli("show", run_id).stdout
    for short in (run_id[:4], run_id[-6:-2]):
        assert current.cli("show", short).stdout == shown
        assert current.cli("rollback", short).exit_code == 0
        assert current.cli("verify", short).stdout.startswith(f"{run_id}: ")
        assert current.cli("run", WIDE, "--resume", short).stdout.startswith(f"{WIDE}: run {run_id} is already up")


def test_ambiguous_or_too_short_run_id_is_refused(published: Project) -> None:
    published.run("--set", "quality.max_rows_changed_percent=null")
    older, newer = published.run_ids()
    result = published.cli("show", "2025")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "run '2025' is ambiguous: it names 2 runs below" in result.stderr
    assert older in result.stderr
    assert newer in result.stderr
    assert "no run '202'" in published.cli("show", "202").stderr
