"""`make docs` reproduces the reference; test_docs.py checks its contents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_tools.makers import MAKERS
from docs_tools.models import default_text, help_of, leaves, records
from docs_tools.parts import pages, part_names, renewed, words_in
from docs_tools.program import error_classes
from pydantic import BaseModel, Field

from bucketwheel.monitoring.metrics import METRICS
from bucketwheel.settings import AthenaSettings, Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "reference"
GENERATED = [page for page in pages(ROOT) if part_names(page.read_text("utf-8"))]


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.name)
def test_no_generated_part_is_stale(page: Path) -> None:
    text = page.read_text("utf-8")
    assert renewed(text, MAKERS) == text, "run `make docs`"


def test_every_generated_part_is_on_a_page() -> None:
    assert {name for page in pages(ROOT) for name in part_names(page.read_text("utf-8"))} == set(MAKERS)


def first_cells(page: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)`", (DOCS / page).read_text("utf-8"), re.MULTILINE))


def test_every_setting_has_description() -> None:
    rows = re.findall(r"^\| `.*\|$", (DOCS / "settings.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) == len(list(leaves(Settings)))
    assert [row for row in rows if re.search(r"\| +\|$", row)] == []


def test_reference_has_every_metric_error_and_record() -> None:
    assert {metric.name for metric in METRICS} <= first_cells("metrics.md")
    assert {kind.__name__ for kind in error_classes()} <= first_cells("errors.md")
    sections = re.findall(r"^### `(\w+)`", (DOCS / "manifest.md").read_text("utf-8"), re.MULTILINE)
    assert set(sections) == {kind.__name__ for kind in records()}


def test_update_keeps_written_cells_and_adds_new_rows() -> None:
    page = "a\n<!-- begin x -->\n| `old` | 1 | by hand |\n| `gone` | 2 | x |\n<!-- end -->\nb\n"

    def make(old: object) -> str:
        assert old == {("", "old"): "by hand", ("", "gone"): "x"}
        return "| `old` | 3 | by hand |\n| `new` | 4 | |\n"

    assert renewed(page, {"x": make}) == (
        "a\n<!-- begin x -->\n| `old` | 3 | by hand |\n| `new` | 4 | |\n<!-- end -->\nb\n"
    )
    rows = words_in("### `Manifest`\n| `a` | b | c \\| d |\n| `e` | f | `null` | |")
    assert rows == {("Manifest", "a"): "c \\| d", ("Manifest", "e"): ""}


def test_help_comes_from_field_then_docstring() -> None:
    class Model(BaseModel):
        """A record.

        Attributes:
            first: From the docstring,
                over two lines.
            second: Not this.
        """

        first: int = 1
        second: float = Field(2.5, description="From the field.")
        third: tuple[str, ...] = ()

    assert help_of(Model, "first") == "From the docstring, over two lines."
    assert help_of(Model, "second") == "From the field."
    assert help_of(Model, "third") == ""
    assert [default_text(field) for field in Model.model_fields.values()] == ["1", "2.5", "[]"]
    assert default_text(AthenaSettings.model_fields["bytes_limit"]) == "1000GB"
