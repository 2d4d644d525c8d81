"""The site: it builds without a warning, its links hold, and it loads nothing from the network."""

from __future__ import annotations

import importlib.util
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import unquote

import pytest

from deploy_support import ROOT

pytestmark = pytest.mark.slow

_ATTRIBUTE = re.compile(r'<(?:a|img|script|link|iframe)\b[^>]*?\b(href|src)="([^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.fail("mkdocs is not installed: pip install -c constraints.txt -e '.[docs]'")
    from guide.build import make_site

    work = tmp_path_factory.mktemp("work")
    made = tmp_path_factory.mktemp("made") / "site"
    make_site(made, work)
    return made


def test_every_page_of_the_repository_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")}
    for page in pages:
        name = "index.html" if page.name == "README.md" else f"{page.stem}.html"
        assert (site / page.parent / name).is_file(), page
    assert "From a checkout to production" in (site / "index.html").read_text("utf-8")


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    links = 0
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        for kind, target in _ATTRIBUTE.findall(text):
            if page.name == "404.html" or target.startswith(("#", "data:", "javascript:")):
                continue
            if re.match(r"(https?:)?//", target):
                # A link that people may follow is fine, what browsers load by themselves is not.
                assert kind == "href", (page, target)
                assert f'<a href="{target}"' in text, (page, target)
                continue
            place = page.parent / unquote(target.partition("#")[0].partition("?")[0])
            assert place.exists(), (page, target)
            links += 1
    assert links > 500


def test_the_search_needs_no_server(site: Path) -> None:
    assert '<script src="../iframe-worker.js">' in (site / "docs" / "s3.html").read_text("utf-8")
    index = (site / "search" / "search_index.js").read_text("utf-8")
    assert index.startswith("var __index = {")
    assert "docs/reference/commands.html#doctor" in index


def test_styles_and_pictures_load_nothing(site: Path) -> None:
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        text = path.read_text("utf-8")
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import", text), path


def test_pictures_show_the_commands_and_the_report_is_embedded(site: Path) -> None:
    tour = site / "docs" / "tour"
    shown = {
        name: "".join(ElementTree.parse(tour / f"{name}.svg").getroot().itertext()).replace("\xa0", " ")
        for name in ("sample", "doctor", "plan", "run", "runs", "rollback")
    }
    assert "$ bucketwheel plan infobase_attributes" in shown["plan"]
    assert re.search(r"ok\s+configuration", shown["doctor"])
    assert "published bucketed_ibe_01 -> out/infobase_attributes/ibe_01/" in shown["run"]
    assert "finished" in shown["runs"]
    assert "<svg" in (tour / "report.html").read_text("utf-8")
    page = (site / "docs" / "tour.html").read_text("utf-8")
    assert '<iframe src="tour/report.html"' in page
    assert ("tour/report.png" in page) == (tour / "report.png").exists()


def test_a_link_that_leads_nowhere_stops_the_build(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guide import build as builder

    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "docs", root / "docs")
    for name in builder.BESIDE:
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    (root / "docs" / "s3.md").write_text("[gone](nowhere.md)")
    monkeypatch.setattr(builder, "make_tour", lambda docs, *_: (docs / "tour.md").write_text("# Tour"))
    with pytest.raises(SystemExit):
        builder.make_site(tmp_path / "site", tmp_path / "work", root)


def test_without_a_browser_there_is_no_picture_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guide.tour import photographed

    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not photographed(tmp_path / "report.html", tmp_path / "report.png")
