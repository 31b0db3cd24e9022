"""A PNG of the pool says that it is synthetic, and by whom; its bytes depend on nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gendataagent.agent.pool import Pool
from gendataagent.agent.provenance import read_provenance, with_provenance
from gendataagent.config import RunConfig
from gendataagent.config.run_config_file import create_run_folder
from gendataagent.core.png import png_bytes
from gendataagent.core.records import RenderedCandidate
from tests.agent.test_pool import candidate, image

RUN = "0123abcd"


@pytest.mark.parametrize(
    "prompt", ["a cat", "eine Kätzchen, 猫, 🐈\nin two lines", "nul \0 inside"]
)
def test_the_chunks_are_read_back_and_the_pixels_unchanged(tmp_path: Path, prompt: str) -> None:
    made = candidate("a", prompt=prompt, generator="some/model", generator_revision="5c1f")
    path = tmp_path / "a.png"
    path.write_bytes(with_provenance(png_bytes(image(7)), made, RUN))
    with Image.open(path) as opened:
        assert read_provenance(opened) == {
            "synthetic": "true",
            "generator": "some/model@5c1f",
            "prompt": prompt.replace("\0", ""),
            "run": RUN,
        }
        assert opened.tobytes() == image(7).tobytes()


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(with_provenance(png_bytes(image(7)), candidate("a"), ""))
    with Image.open(path) as opened:
        assert read_provenance(opened) == {"synthetic": "true"}
    image(7).save(path)
    with Image.open(path) as opened:
        assert read_provenance(opened) == {}


def test_the_bytes_are_the_same_in_another_process_and_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.agent.test_pool import candidate, image\n"
        "from gendataagent.agent.provenance import with_provenance\n"
        "from gendataagent.core.png import png_bytes\n"
        "made = candidate('a', prompt='ä', generator='some/model')\n"
        "sys.stdout.buffer.write(with_provenance(png_bytes(image(1)), made, 'x'))"
    )
    root = Path(__file__).parents[2]
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True,
                               cwd=root)  # fmt: skip
    made = candidate("a", prompt="ä", generator="some/model")
    assert elsewhere.stdout == with_provenance(png_bytes(image(1)), made, "x")
    for name in ("one", "two"):
        folder = create_run_folder(tmp_path / name, RunConfig())
        Pool(folder, ("a", "b"), run="x").add_batch(0, [RenderedCandidate(made, image(1))], 1.0)
        assert Pool(folder, ()).image_path(made).read_bytes() == elsewhere.stdout


def test_other_facts_give_other_bytes() -> None:
    made = candidate("a", prompt="a cat", generator="some/model")
    png = png_bytes(image(1))
    one = with_provenance(png, made, RUN)
    assert with_provenance(png, replace(made, prompt="a dog"), RUN) != one
    assert with_provenance(png, made, "other") != one
