"""What runs and workers leave as PNG is read as PNG alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import EpsImagePlugin, Image

from gendataagent.agent.synthetic import read_png
from gendataagent.core.errors import RunFolderError
from gendataagent.core.png import opened, png_bytes
from gendataagent.core.protocols import Rendered
from gendataagent.report.thumbnails import thumbnail


def as_thumbnail(path: Path) -> None:
    if thumbnail(path) is None:
        raise OSError("not shown")


@pytest.mark.parametrize(
    "read", [read_png, as_thumbnail, lambda path: Rendered.of_png(path.read_bytes(), None)]
)
@pytest.mark.parametrize("kind", ["EPS", "GIF"])
def test_another_format_under_the_name_of_a_png_is_not_read(
    kind: str, read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("a program ran"))
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path, kind)
    with pytest.raises((OSError, RunFolderError)):
        read(path)


def test_an_image_that_would_fill_the_memory_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(Image.new("RGB", (8, 8))))
    with pytest.raises(RunFolderError, match=r"cannot be read .*decompression bomb"):
        read_png(path)
    assert thumbnail(path) is None
    with pytest.raises(OSError, match="bomb"):
        opened(io.BytesIO(path.read_bytes()))
