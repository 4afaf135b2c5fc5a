"""The documentation names everything there is to set, call and type, and nothing that is gone."""

import re
import runpy
from pathlib import Path

import pytest

from maskloop.demo.project import CONFIG
from maskloop.settings import environment_names

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md"), *(DOCS / "decisions").glob("*.md")])


@pytest.mark.parametrize("page", ["settings", "commands"])
def test_every_setting_and_command_is_documented_as_it_is(page: str) -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "document.py"))[page]()
    assert written == (DOCS / f"{page}.md").read_text(), "run `make docs`"


def test_no_setting_is_documented_that_does_not_exist() -> None:
    known = {name for names in environment_names().values() for name in names}
    for page in PAGES:
        for name in re.findall(r"\bMASKLOOP_[A-Z_]+\b", page.read_text()):
            assert name in known or name.startswith("MASKLOOP_TEST_"), f"{page.name} names {name}"


def test_every_route_is_documented() -> None:
    page = (DOCS / "http.md").read_text()
    sources = "\n".join(file.read_text() for file in (ROOT / "backend" / "maskloop" / "web").glob("*.py"))
    routes = set(re.findall(r'@blueprint\.(?:get|post|route)\("([^"]+)"', sources))
    assert {"/health", "/setup", "/predict", "/webhook", "/versions", "/metrics"} <= routes
    for route in routes:
        assert re.search(rf"`(GET|POST) {re.escape(route)}`", page), f"{route} is missing in docs/http.md"


def test_the_readme_shows_the_config_that_the_demo_uses_and_the_tests_click() -> None:
    assert CONFIG in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        other = (page.parent / target).read_text() if target else page.read_text()
        headings = re.findall(r"^#+ (.+)$", other, re.M)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{page.name} links to {target}#{anchor}"


def test_make_targets_that_the_docs_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text()):
            assert target in targets, f"{page.name} names make {target}"
