"""The report in a real browser: nothing wider than the screen, every image loaded."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from gendataagent.report import write_report
from tests.browser import FLAGS, browser_or_skip

from .fixture_run import NASTY_NAMES, build_run

# A headless window cannot be made narrower than about 500 px, a frame can. The page's own policy
# forbids scripts, so the script is outside the frame: it opens every folded part, measures,
# and writes the results.
PROBE = """<!doctype html><iframe id="frame" style="border: 0; width: {width}px; height: {height}px"
srcdoc="{page}"></iframe><pre id="probe"></pre><script>addEventListener("load", () => {{
  const view = document.getElementById("frame").contentWindow, page = view.document;
  for (const part of page.querySelectorAll("details")) part.open = true;
  const images = [...page.images];
  const wide = [...page.querySelectorAll("main *")].filter(e =>
    !e.closest(".scroll, pre, .unseen") && e.getBoundingClientRect().right > view.innerWidth + 1);
  document.getElementById("probe").textContent = JSON.stringify({{
    inner: view.innerWidth,
    scroll: page.documentElement.scrollWidth,
    images: images.length,
    broken: images.filter(i => !(i.complete && i.naturalWidth > 0)).length,
    wide: wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120)),
  }});
}});</script>"""

pytestmark = pytest.mark.browser


def _browse(page: Path, profile: Path, *flags: str) -> str:
    result = subprocess.run(
        [browser_or_skip(), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return result.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    names = (*NASTY_NAMES, "W" * 120)
    return write_report(
        build_run(
            folder,
            class_names=names,
            feedback=True,
            quarantined=[(f"{'x' * 200}.jpg", "truncated")],
        )
    )


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_nothing_is_wider_than_the_screen_and_all_images_load(
    page: Path, tmp_path: Path, width: int, height: int
) -> None:
    text = page.read_text(encoding="utf-8")
    probed = tmp_path / "probed.html"
    framed = PROBE.format(width=width, height=height, page=html.escape(text, quote=True))
    probed.write_text(framed, encoding="utf-8")
    dom = _browse(probed, tmp_path / "p", "--window-size=1400,1000", "--dump-dom")
    found = re.search(r'<pre id="probe">(\{.*?)</pre>', dom, re.DOTALL)
    assert found, "the probe did not run"
    result = json.loads(html.unescape(found[1]))
    assert result["inner"] == width
    assert result["scroll"] <= result["inner"], result["wide"]
    assert result["wide"] == []
    assert result["broken"] == 0
    assert result["images"] == text.count("<img ") > 50


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_the_page_renders(page: Path, tmp_path: Path, width: int, height: int) -> None:
    shot = tmp_path / "shot.png"
    _browse(page, tmp_path / "p", f"--window-size={width},{height}", f"--screenshot={shot}")
    with Image.open(shot) as image:
        assert image.size == (width, height)
        colours = image.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert len(colours) > 100
