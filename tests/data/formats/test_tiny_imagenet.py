"""Tiny ImageNet as its archive unpacks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError
from gendataagent.data.indexing import index_data
from tests.data.formats.test_folder import save

IDS = ("n01443537", "n01629819")
NAMES = ("goldfish", "fire salamander")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    for name in IDS:
        for number in range(4):
            save(root, f"train/{name}/images/{name}_{number}.JPEG")
        (root / f"train/{name}/{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t10\t63\t58\n")
    for number in range(4):
        save(root, f"val/images/val_{number}.JPEG")
        save(root, f"test/images/test_{number}.JPEG")
    lines = [f"val_{n}.JPEG\t{IDS[n % 2]}\t0\t32\t44\t62\n" for n in range(4)]
    (root / "val/val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(IDS))
    (root / "words.txt").write_text(f"{IDS[0]}\tgoldfish, Carassius auratus\n")
    return root


@pytest.mark.parametrize("above", [False, True])
def test_validation_is_read_from_its_list_and_test_left_out(tree: Path, above: bool) -> None:
    index = index_data(DataConfig(path=str(tree.parent if above else tree)))
    assert index.class_names == NAMES
    counts = Counter((item.split, item.class_name) for item in index.items)
    assert counts == {(s, name): n for s, n in (("train", 4), ("validation", 2)) for name in NAMES}
    class_of = {item.id.split("/")[-1]: item.class_name for item in index.items}
    assert class_of["val_1.JPEG"] == NAMES[1]
    assert any("Left out 4 images without a label" in note for note in index.notes)


def test_validation_alone_can_be_measured(tree: Path) -> None:
    index = index_data(DataConfig(path=str(tree / "val")), need_train=False)
    assert [item.class_name for item in index.items] == [*NAMES, *NAMES]


def test_a_damaged_list_is_named_by_line(tree: Path) -> None:
    (tree / "val/val_annotations.txt").write_text("val_0.JPEG\tn01443537\nval_1.JPEG\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt, line 2"):
        index_data(DataConfig(path=str(tree)))
