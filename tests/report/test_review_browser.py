"""The page of a review in a real browser: by keys and clicks, on a screen and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gendataagent.agent.by_hand.decisions import read_decisions
from gendataagent.core.run_folder import RunFolder
from gendataagent.report.review.candidates import PAGE
from gendataagent.report.review.serving import ReviewServer
from tests.browser import Page, browse

from .fixture_run import NASTY_NAMES, build_run

pytestmark = pytest.mark.browser

SHOWN = "document.querySelectorAll('.candidate').length"
CURRENT = "document.querySelector('.candidate.current').dataset.id"
LOADED = "[...document.images].filter(i => i.complete && i.naturalWidth).length"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    names = (*NASTY_NAMES, "W" * 60)
    return build_run(tmp_path / "run", class_names=names, rounds=2, baseline=False)


@pytest.fixture
def page(server: ReviewServer, tmp_path: Path) -> Iterator[Page]:
    with browse(tmp_path / "profile") as page:
        page.open(server.address)
        page.until(f"{SHOWN} === {PAGE} && {LOADED} > 6")
        yield page


def decided(run: Path) -> dict[str, str]:
    return dict(read_decisions(RunFolder(run)).of_id)


def undecided(page: Page) -> None:
    """Wait until what was asked of the server is shown."""
    page.until("!document.querySelector('[aria-pressed=true]')")


def test_by_keys(page: Page, run: Path) -> None:
    first = page.value(CURRENT)
    page.press("d")
    page.until("document.querySelector('.candidate.current.dropped')")
    assert decided(run) == {first: "drop"}
    page.press("ArrowRight")
    second = page.value(CURRENT)
    assert second != first
    page.press("k")
    page.until("document.querySelectorAll('[aria-pressed=true]').length === 2")
    assert decided(run) == {first: "drop", second: "keep"}
    page.press("u")
    page.until("document.querySelectorAll('[aria-pressed=true]').length === 1")
    page.press("u")
    undecided(page)
    assert decided(run) == {}
    page.press("ArrowDown")
    assert page.value(CURRENT) not in (first, second)
    page.press("Enter")
    page.until("document.getElementById('large').open")
    enlarged = page.value(CURRENT)
    page.press("ArrowRight")
    page.until(f"document.getElementById('large').textContent.includes({CURRENT})")
    assert page.value(CURRENT) != enlarged
    page.press("Escape")
    page.until("!document.getElementById('large').open")
    assert page.value("document.querySelector('.banner') === null")


def test_the_arrow_past_the_last_image_turns_the_page(page: Page) -> None:
    ids = [page.value(CURRENT)]
    for _ in range(PAGE):
        page.press("ArrowRight")
        page.until(f"{CURRENT} !== '{ids[-1]}'")
        ids.append(page.value(CURRENT))
    assert len(set(ids)) == PAGE + 1
    page.until("document.getElementById('where').textContent.startsWith('49–')")
    page.press("ArrowLeft")
    page.until("document.getElementById('where').textContent.startsWith('1–')")
    assert page.value(CURRENT) == ids[-2]


def test_filtered_then_all_dropped_and_taken_back(page: Page, run: Path) -> None:
    page.value(
        "const chosen = document.getElementById('filters').elements.verdict;"
        "chosen.value = 'in'; document.getElementById('filters').elements.class.value = '4';"
        "chosen.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    page.until("document.getElementById('drop-all').textContent.startsWith('Drop these')")
    many = int(page.value("document.getElementById('drop-all').textContent").split()[-1])
    assert many > 1
    page.value("document.getElementById('drop-all').click()")
    page.until("document.getElementById('sure').open")
    assert f"Drop {many} images" in page.value("document.getElementById('sure').textContent")
    page.value("document.querySelector('#sure [value=yes]').click()")
    page.until(f"{SHOWN} === 0")
    assert len(decided(run)) == many
    page.value("document.getElementById('undo').click()")
    page.until(f"{SHOWN} === {many}")
    assert decided(run) == {}


def test_a_review_that_has_ended_says_so(page: Page, server: ReviewServer) -> None:
    server.shutdown()
    server.server_close()
    page.press("d")
    page.until("!document.getElementById('message').hidden")
    assert "The review has ended" in page.value("document.getElementById('message').textContent")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_nothing_is_wider_than_the_screen(
    page: Page, server: ReviewServer, tmp_path: Path, width: int, height: int, dark: bool
) -> None:
    page.open("about:blank")
    page.open(server.address, width=width, height=height, dark=dark)
    page.until(f"{SHOWN} === {PAGE} && {LOADED} > 1")
    assert page.value("document.documentElement.scrollWidth") <= width
    wide = (
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.unseen') && "
        f"e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML.slice(0, 90))"
    )
    assert page.value(wide) == []
    shot = tmp_path / "shot.png"
    page.screenshot(shot)
    with Image.open(shot) as image:
        assert image.size == (width, height)
        corner = image.convert("RGB").getpixel((1, height - 1))
    assert isinstance(corner, tuple)
    assert (max(corner) < 80) is dark
