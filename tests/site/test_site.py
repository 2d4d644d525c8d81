"""The site builds without warnings, its links resolve, and it loads nothing from the network."""

from __future__ import annotations

import importlib.util
import re
import shutil
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

import pytest
from site_tools import tour
from site_tools.tour import find_browser, photograph

from deploy_support import ROOT

# One process builds the site for all tests.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]

_ATTRIBUTE = re.compile(r'<(?:a|img|script|link|iframe)\b[^>]*?\b(href|src)="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.fail("mkdocs is not installed: make venv")
    from site_tools.build import make_site

    work = tmp_path_factory.mktemp("work")
    directory = tmp_path_factory.mktemp("built") / "site"
    make_site(directory, work)
    return directory


def test_site_has_every_page_of_repository(site: Path) -> None:
    pages = {path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")}
    assert len(pages) > 10
    for page in pages:
        if page == Path("docs/index.md"):
            continue
        name = "index.html" if page.name == "README.md" else f"{page.stem}.html"
        assert (site / page.parent / name).is_file(), page
    home = (site / "index.html").read_text("utf-8")
    assert all(
        text in home
        for text in ("Quick start", 'src="docs/pictures/overview.svg"', 'href="docs/reference/index.html"')
    )


def test_links_resolve_and_pages_load_nothing_external(site: Path) -> None:
    links = 0
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        for kind, target in _ATTRIBUTE.findall(text):
            if page.name == "404.html" or target.startswith(("#", "data:", "javascript:")):
                continue
            if re.match(r"(https?:)?//", target):
                # External links are allowed; resources that browsers load by themselves are not.
                assert kind == "href", (page, target)
                assert f'<a href="{target}"' in text, (page, target)
                continue
            place = page.parent / unquote(target.partition("#")[0].partition("?")[0])
            assert place.exists(), (page, target)
            links += 1
    assert links > 500


def test_choices_in_tables_have_no_backslash(site: Path) -> None:
    text = (site / "docs" / "reference" / "commands.html").read_text("utf-8")
    assert "<code>text|json</code>" in text
    assert "\\|" not in text


def test_search_works_without_server(site: Path) -> None:
    assert '<script src="../iframe-worker.js">' in (site / "docs" / "s3.html").read_text("utf-8")
    index = (site / "search" / "search_index.js").read_text("utf-8")
    assert index.startswith("var __index = {")
    assert "docs/reference/commands.html#doctor" in index


def test_styles_and_pictures_load_nothing(site: Path) -> None:
    styles, pictures = list(site.rglob("*.css")), list(site.rglob("*.svg"))
    assert styles
    assert pictures
    for path in [*styles, *pictures]:
        text = path.read_text("utf-8")
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import", text), path


def test_site_has_pictures_of_commands_and_report(site: Path) -> None:
    place = site / "docs" / "tour"
    shown = {
        name: "".join(ElementTree.parse(place / f"{name}.svg").getroot().itertext()).replace("\xa0", " ")
        for name in ("sample", "doctor", "plan", "run", "runs", "rollback", "package", "deploy")
    }
    assert "$ bucketwheel plan infobase_attributes" in shown["plan"]
    assert re.search(r"ok\s+configuration", shown["doctor"])
    assert re.search(r"catalog +out/catalog.duckdb, schema", shown["run"])
    assert "finished" in shown["runs"]
    assert re.search(r"[0-9a-f]{64} .* job\.py", shown["package"])
    assert "AWSTemplateFormatVersion" in shown["deploy"]
    report = (place / "report.html").read_text("utf-8").replace("<wbr>", "")
    assert "<svg" in report
    assert ">out/infobase_attributes/&lt;table&gt;/" in report
    assert "/project/" not in report


def test_tour_has_picture_of_whole_report(site: Path, cannot: Callable[[str], NoReturn]) -> None:
    if find_browser() is None:
        cannot("no browser is here; install chromium")
    content = (site / "docs" / "tour" / "report.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    # A square window would cut off the page.
    assert (width, height > 1500) == (1200, True)
    page = (site / "docs" / "tour.html").read_text("utf-8")
    assert 'src="tour/report.png"' in page
    assert "<iframe" not in page


def test_failing_browser_stops_build(tmp_path: Path) -> None:
    browser, page = tmp_path / "chromium", tmp_path / "page.html"
    page.write_text("<body></body>")
    browser.write_text("#!/bin/sh\necho 'no shared memory' >&2\nexit 1\n")
    browser.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"--dump-dom ended with 1: no shared memory"):
        photograph(str(browser), page, tmp_path / "page.png")
    browser.write_text("#!/bin/sh\necho '<body data-height=\"700\">'\n")
    with pytest.raises(RuntimeError, match=r"made no picture of .*page\.html: <body"):
        photograph(str(browser), page, tmp_path / "page.png")
    browser.write_text("#!/bin/sh\necho '<body>'\n")
    with pytest.raises(RuntimeError, match=r"did not say how high .*page\.html is: <body>"):
        photograph(str(browser), page, tmp_path / "page.png")


def test_broken_link_stops_build(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from site_tools import build as builder

    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "docs", root / "docs")
    for name in builder.BESIDE:
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    (root / "docs" / "s3.md").write_text("[gone](nowhere.md)")
    monkeypatch.setattr(builder, "make_tour", lambda docs, *_: (docs / "tour.md").write_text("# Tour"))
    with pytest.raises(SystemExit):
        builder.make_site(tmp_path / "site", tmp_path / "work", root)


def test_page_embeds_report_without_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "find_browser", lambda: None)

    def run(words: str, *_: object) -> str:
        if words.startswith("report"):
            (tmp_path / "tour" / "report.html").touch()
        return words

    monkeypatch.setattr(tour, "run", run)
    tour.make_tour(tmp_path, tmp_path / "project", ROOT)
    text = (tmp_path / "tour.md").read_text("utf-8")
    assert '<iframe src="tour/report.html"' in text
    assert "report.png" not in text
