"""Data folders, tables and archives of any content: images, or a sentence."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError, GenDataAgentError
from gendataagent.data import load_data
from gendataagent.data.generator_corpus import load_generator_corpus

NAMES = st.text(
    st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))
SUFFIXES = st.sampled_from(
    [".png", ".PNG", ".jpg", ".webp", ".gif", ".parquet", ".json", ".zip", ""]
)


def _png(side: int = 4) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (side, 90, 200)).save(stream, "PNG")
    return stream.getvalue()


PNG = _png()
CONTENT = (
    st.binary(max_size=60)
    | st.just(PNG)
    | st.builds(lambda cut: PNG[:cut], st.integers(0, len(PNG)))
    | st.builds(
        lambda place, byte: PNG[:place] + bytes([byte]) + PNG[place + 1 :],
        st.integers(0, len(PNG) - 1), st.integers(0, 255),
    )
)  # fmt: skip
CELLS = st.one_of(
    st.none(), st.integers(-2, 3), st.text(max_size=5), st.floats(), st.booleans(), CONTENT,
    st.builds(lambda content, path: {"bytes": content, "path": path},
              st.none() | CONTENT, st.none() | st.text(max_size=8)),
    st.lists(st.integers(0, 3), max_size=2),
)  # fmt: skip


def load_both(path: Path) -> None:
    """Read a path as labelled images and as images without labels."""
    with contextlib.suppress(GenDataAgentError):
        load_data(str(path))
    with contextlib.suppress(GenDataAgentError):
        load_generator_corpus(path, DataConfig())


quick = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=settings().max_examples // 6,
)


@quick
@given(files=st.lists(st.tuples(st.lists(NAMES, max_size=3), NAMES, SUFFIXES, CONTENT), max_size=8))
def test_any_folder_is_images_or_a_sentence(
    tmp_path: Path, files: list[tuple[list[str], str, str, bytes]]
) -> None:
    root = tmp_path / "data"
    for folders, name, suffix, content in files:
        with contextlib.suppress(OSError):  # a name that this file system refuses
            path = root.joinpath(*folders, name + suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    try:
        load_both(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


@quick
@given(
    images=st.lists(CELLS, min_size=1, max_size=6), labels=st.lists(CELLS, min_size=1, max_size=6)
)
def test_any_table_is_images_or_a_sentence(
    tmp_path: Path, images: list[object], labels: list[object]
) -> None:
    path, rows = tmp_path / "train.parquet", min(len(images), len(labels))
    try:
        table = pa.table({"image": images[:rows], "label": labels[:rows]})
        pq.write_table(table, path)
    except (pa.ArrowException, ValueError, TypeError):  # cells of kinds that no column can mix
        return
    load_both(path)


@quick
@given(data=st.data())
def test_a_damaged_table_is_images_or_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "train.parquet"
    rows = {"image": [_png(side) for side in (4, 5, 6, 7)], "label": ["a", "b", "a", "b"]}
    pq.write_table(pa.table(rows), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    load_both(path)


@pytest.mark.parametrize("word", [b"class name 1", b"label"], ids=["cell", "column name"])
def test_text_that_is_not_utf_8_is_named(tmp_path: Path, word: bytes) -> None:
    path = tmp_path / "train.parquet"
    rows = {"image": [_png(4), _png(5)], "label": ["class name 1", "class name 2"]}
    pq.write_table(pa.table(rows), path, compression="none")
    path.write_bytes(path.read_bytes().replace(word, word[:-1] + b"\xfb"))
    with pytest.raises(DataError, match=r"cannot read .*train\.parquet"):
        load_data(str(path))


@pytest.mark.parametrize("name", ["TRAIN.PARQUET", "Train.Parquet"])
def test_the_case_of_a_table_s_suffix_does_not_matter(tmp_path: Path, name: str) -> None:
    rows = {"image": [_png(side) for side in range(4, 24)], "label": ["a", "b"] * 10}
    pq.write_table(pa.table(rows), tmp_path / name)
    for path in (tmp_path / name, tmp_path):
        assert load_data(str(path)).train.class_names == ("a", "b")
