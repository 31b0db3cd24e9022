"""Every form of data can be measured on: a test part alone, and with the settings of a run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gendataagent.config import DataConfig
from gendataagent.data.loading import load_to_measure
from tests.data.formats import test_boxes, test_lists, test_webdataset


def csv_file(root: Path) -> Path:
    names = test_lists.save(root, *(f"{n}.png" for n in range(6)))
    rows = [(name, test_lists.kind_of(n), "test") for n, name in enumerate(names)]
    return test_lists.table(root / "a.csv", ("image", "label", "split"), rows)


def shards(root: Path) -> Path:
    return test_webdataset.pack(root / "test-0.tar", test_webdataset.samples(0, 6)).parent


def coco(root: Path) -> Path:
    test_boxes.make(root, "coco", count=2)
    shutil.rmtree(root / "train2017")
    (root / "annotations/instances_train2017.json").unlink()
    return root


def voc(root: Path) -> Path:
    test_boxes.make(root, "voc", count=2)
    (root / "ImageSets/Main/train.txt").unlink()
    return root


@pytest.mark.parametrize("make", [csv_file, shards, coco, voc])
def test_a_part_without_train_is_measured(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    plain = DataConfig(path=str(path))
    of_a_run = replace(plain, image_column="photo", label_column="kind", split_column="part")
    for config in (plain, of_a_run):
        found = load_to_measure(config)
        assert len(found.images) in (6, 8)
        assert len(found.images.class_names) == 2
        assert not found.quarantined
