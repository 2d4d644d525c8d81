"""Build the pages in the layout of the repository, so that the same links work in both."""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.commands.build import build
from mkdocs.config import load_config

from .tour import make_tour

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# Pages outside of docs/.
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "conf/README.md")
_RELATIVE_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s]+)")
_CODE = re.compile(r"`[^`]+`")
# Pages that come first in their section; all others follow by name.
_GUIDES = (
    *("architecture", "operations", "deploy", "deploy-not-exercised", "migration", "spark", "s3", "containers"),
    "releasing",
)
_REFERENCE = ("README", "commands", "arguments", "settings", "manifest", "metrics", "errors")


def make_site(to: Path, work: Path, root: Path = ROOT) -> None:
    """Build the site.

    Args:
        to: output directory, which is emptied first.
        work: directory for intermediate files.
        root: the checkout.

    Raises:
        mkdocs.exceptions.Abort: a page has a broken link or anchor.
    """
    pages = work / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(root / "docs", pages / "docs")
    for name in BESIDE:
        (pages / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(root / name, pages / name)
    _unescape_pipes(pages)
    _move_home(pages)
    for name in ("site.css", "iframe-worker.js"):
        shutil.copyfile(HERE / name, pages / name)
    make_tour(pages / "docs", work / "project", root)
    config = load_config(
        str(HERE / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(to.absolute()), strict=True, nav=nav(pages)
    )
    config.plugins.run_event("startup", command="build", dirty=False)
    try:
        build(config)
    finally:
        config.plugins.run_event("shutdown")


def _unescape_pipes(pages: Path) -> None:
    """Write `a|b` for `a\\|b` in the code of tables: forges need the backslash there, but the site would show it."""
    for page in pages.rglob("*.md"):
        rows = [
            _CODE.sub(lambda code: code[0].replace("\\|", "|"), line) if line.startswith("|") else line
            for line in page.read_text("utf-8").splitlines(keepends=True)
        ]
        page.write_text("".join(rows), "utf-8")


def _move_home(pages: Path) -> None:
    """Move docs/index.md to the root of the site and adapt its links."""
    home = pages / "docs" / "index.md"
    text = _RELATIVE_LINK.sub(lambda link: link[1] + posixpath.normpath(f"docs/{link[2]}"), home.read_text("utf-8"))
    (pages / "index.md").write_text(text, "utf-8")
    home.unlink()


def nav(pages: Path) -> list[dict[str, Any]]:
    """Return the menu, with every page of `pages`."""
    about = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "conf/README.md")
    return [
        {"Start": ["index.md", "docs/getting-started.md", "docs/tour.md"]},
        {"Guides": list(_ordered(pages, "docs", (*_GUIDES,), ("tour", "index", "getting-started")))},
        {"Reference": list(_ordered(pages, "docs/reference", _REFERENCE, ()))},
        {"Decisions": list(_ordered(pages, "docs/adr", ("README",), ()))},
        {"About": list(about)},
    ]


def _ordered(pages: Path, directory: str, first: tuple[str, ...], without: tuple[str, ...]) -> Iterator[str]:
    names = sorted(path.stem for path in (pages / directory).glob("*.md"))
    for name in [*first, *(name for name in names if name not in first)]:
        if name in names and name not in without:
            yield f"{directory}/{name}.md"
