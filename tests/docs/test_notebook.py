"""The notebook of the documentation: every cell runs and displays what the notebook shows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from notebook_reader import run_cells

from page_support import masked

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/notebook.ipynb"


def texts(outputs: list[dict[str, Any]]) -> list[str]:
    """Return what the outputs show, without what differs between runs."""
    shown = []
    for output in outputs:
        data = output.get("data", {})
        shown.append(masked("".join(output.get("text") or data.get("text/html") or data["text/plain"])))
    return shown


def test_notebook_cells_display_what_is_shown(no_flush: None) -> None:
    seen = run_cells(NOTEBOOK)
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    if os.environ.get("UPDATE_GOLDEN") == "1":
        for cell, (_, outputs) in zip(cells, seen, strict=True):
            cell["outputs"] = outputs
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [texts(outputs) for _, outputs in seen] == [texts(cell["outputs"]) for cell in cells]
    assert sum(bool(cell["outputs"]) for cell in cells) >= 5
