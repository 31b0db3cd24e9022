"""The documentation: every link leads somewhere, every page is in the site's navigation once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gendataagent.config import RunConfig
from gendataagent.config.settings import iterate_settings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("results/**/*.md")])
LINK = re.compile(r"(?<!`)\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    titles = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", title) for title in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name}: {link}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {link}"


def pages_of(entry: Any) -> Iterator[str]:
    """Yield the pages of a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    for part in entry.values() if isinstance(entry, dict) else entry:
        if not isinstance(entry, str):
            yield from pages_of(part)


def test_every_page_is_in_the_navigation_once() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))
    shown = list(pages_of(config["project"]["nav"]))
    assert sorted(shown) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_site_has_no_link_out_of_its_folder() -> None:
    for page in DOCS.glob("*.md"):
        assert "](../" not in page.read_text("utf-8"), page.name


def test_settings_that_the_pages_name_exist() -> None:
    known = {row.key for row in iterate_settings(RunConfig())}
    sections = {key.split(".")[0] for key in known if "." in key}
    package = ROOT / "src" / "gendataagent"
    named = re.compile(rf"`(?:--set )?((?:{'|'.join(sorted(sections))})\.[a-z_0-9]+)[=`]")
    unknown = {
        f"{page.name}: {key}"
        for page in [ROOT / "README.md", *DOCS.glob("*.md")]
        for key in named.findall(page.read_text("utf-8"))
        if key not in known and not list(package.glob(key.replace(".", "/") + "*"))
    }
    assert not unknown
