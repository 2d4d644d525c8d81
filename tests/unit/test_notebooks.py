"""The Python interface in notebooks: progress bars, connections, and the text of a configuration."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from bucketwheel import api
from bucketwheel.contracts import Progress
from bucketwheel.errors import CatalogError, MissingDependencyError
from project import DATABASE, WIDE, Project


class Notebook:
    """Stands for IPython with a kernel: records what a cell displays and each update of it."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, value: Any, display_id: bool) -> Notebook:
        assert display_id
        self.update(value)
        return self

    def update(self, value: Any) -> None:
        self.shown.append(value._repr_html_())


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    screen = Notebook()
    shell = SimpleNamespace(kernel=object())
    display = SimpleNamespace(display=screen.display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
    return screen


def test_progress_in_notebook_updates_one_table(notebook: Notebook, current: Project) -> None:
    config = current.configuration(buckets__count=3)
    api.run(config, WIDE, progress=api.progress())
    last = notebook.shown[-1]
    stages = [last.index(f"<td>{name}</td>") for name in config.settings.stages]
    assert stages == sorted(stages)
    assert last.count('value="1.000"') == len(stages)
    assert "1,200 rows, " in last
    assert "3 source columns are not in the mapping" in last


def test_progress_in_notebook_escapes_html(notebook: Notebook) -> None:
    with api.progress() as report:
        report(Progress("<b>", "bucket", "started", total_rows=10))
        report(Progress("<b>", "bucket", "warning", message="a < b"))
        report(Progress("<b>", "bucket", "finished", message="1.0 s"))
    assert "<b>" not in notebook.shown[-1]
    assert "a &lt; b" in notebook.shown[-1]


def test_progress_outside_notebook_prints_stages(capsys: pytest.CaptureFixture[str]) -> None:
    report = api.progress()
    report(Progress("people", "split", "finished", message="0.1 s"))
    report(Progress("people", "", "finished"))
    report.close()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "people: split 0.1 s\n")


def test_progress_is_closed_after_failure(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    report = api.progress()
    closed: list[bool] = []
    monkeypatch.setattr(report, "close", lambda: closed.append(True))
    with pytest.raises(Exception, match="no stage 'x'"):
        api.run(project.configuration(), WIDE, stages=["x"], progress=report)
    assert closed


def test_connect_shows_published_tables_read_only(current: Project) -> None:
    config = current.configuration()
    connection = api.connect(config)
    assert connection.sql("SELECT count(*) FROM bucketed_ibe_01").fetchall() == [(1200,)]
    with pytest.raises(duckdb.Error, match="read-only"):
        connection.execute(f"DROP VIEW {DATABASE}.bucketed_ibe_01")
    assert list(current.catalog.parent.glob(".*.read")) == []
    # An open connection does not keep a run from publishing, and sees the tables of its own time.
    api.run(current.configuration(catalog__final_prefix="new_"), WIDE)
    with pytest.raises(duckdb.Error, match="new_ibe_01"):
        connection.sql("FROM new_ibe_01")
    assert api.connect(config).sql("SELECT count(*) FROM new_ibe_01").fetchall() == [(1200,)]


def test_connect_before_first_run_explains_the_fix(project: Project) -> None:
    with pytest.raises(CatalogError, match=r"catalog\.duckdb: no such catalog; .* bucketwheel run"):
        api.connect(project.configuration())
    assert not project.catalog.exists()


def test_connect_without_duckdb_names_the_extra(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bucketwheel.catalogs.duckdb_reader", raising=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'bucketwheel\[duckdb\]'"):
        api.connect(project.configuration())


def test_printed_configuration_is_one_screen(project: Project) -> None:
    many = {f"datasets.d{number}.{name}": "x" * 200 for number in range(20) for name in ("source", "key")}
    config = api.load("local", project.conf, many, environ={})
    lines = str(config).splitlines()
    assert lines[0].startswith("env local: ")
    assert len(lines) <= 24
    assert max(map(len, lines)) < 200
    assert lines[-1].endswith("more settings: config.rows()")
    assert "threads" in str(project.configuration())
    assert len(repr(config)) < 100
    assert "<table>" in config._repr_html_()
