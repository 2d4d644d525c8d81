"""The notebook of the documentation: a Jupyter kernel runs every cell and displays what the notebook shows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from page_support import masked
from project import environment

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/notebook.ipynb"


def execute(directory: Path) -> list[list[dict[str, Any]]]:
    """Return the outputs of each code cell, run by a new kernel in this directory."""
    read: Callable[..., Any] = nbformat.read
    notebook = read(NOTEBOOK, as_version=4)
    # Sockets in the file system, because other tests use ports.
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": directory}})
    manager = client.create_kernel_manager()
    manager.transport = "ipc"
    manager.ip = str(directory / "kernel")
    client.execute(env=dict(environment()))
    return [list(cell["outputs"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts(outputs: list[dict[str, Any]]) -> list[str]:
    """Return what the outputs show, without what differs between runs."""
    shown = []
    for output in outputs:
        data = output.get("data", {})
        text = masked("".join(output.get("text") or data.get("text/html") or data["text/plain"]))
        # The number of settings grows with each version.
        shown.append(re.sub(r"\d+ (by default|settings, from)", r"N \1", text))
    return shown


def stored(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the outputs for the file of the notebook, without addresses of objects."""
    for output in outputs:
        if "text/html" in output.get("data", {}):
            output["data"] = {"text/html": output["data"]["text/html"], "text/plain": "table"}
    return outputs


def test_notebook_cells_display_what_is_shown(tmp_path: Path) -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    seen = execute(tmp_path)
    if os.environ.get("UPDATE_GOLDEN") == "1":
        for cell, outputs in zip(cells, seen, strict=True):
            cell["outputs"] = stored(outputs)
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert [texts(outputs) for outputs in seen] == [texts(cell["outputs"]) for cell in cells]
    assert sum(bool(outputs) for outputs in seen) >= 5
    # One table of bars per run, which its updates replaced.
    pages = [output.get("data", {}).get("text/html", "") for outputs in seen for output in outputs]
    bars = [page for page in pages if "<progress" in page]
    assert len(bars) == 2
    assert all(page.count('value="1.000"') == 7 for page in bars)
