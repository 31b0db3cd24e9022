"""cat_0001.jpg, train/dog.12.jpg: the class is in the name of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.core.errors import ConfigError, DataError
from gendataagent.data.name_patterns import USUAL_NAME
from tests.data.formats.test_folder import load, note, save


@pytest.mark.parametrize(
    "names",
    [
        [f"{kind}_{n:04}.png" for kind in ("cat", "red fox") for n in range(8)],
        [f"train/{kind}.{n}.png" for kind in ("cat", "red fox") for n in range(8)],
        [f"train/train/{kind}{n}.png" for kind in ("cat", "red fox") for n in range(8)],
    ],
    ids=["flat", "train", "twice"],
)
def test_the_refusal_shows_the_pattern_that_reads_them(tmp_path: Path, names: list[str]) -> None:
    save(tmp_path, *names)
    with pytest.raises(DataError) as refused:
        load(tmp_path)
    hint = f"names say the class (cat, red fox): --set 'data.class_pattern={USUAL_NAME}'"
    if "train/train/" not in names[0]:  # there two classes may be meant
        assert str(refused.value).endswith(hint)
    data = load(tmp_path, class_pattern=USUAL_NAME)
    assert data.class_names == ("cat", "red fox")
    assert [len(images) for images in data.by_name().values()] == [12, 2, 2]


def test_names_without_a_word_of_their_own_give_no_hint(tmp_path: Path) -> None:
    save(tmp_path, *(f"IMG_{n}.png" for n in range(8)), *(f"{n}.png" for n in range(8)))
    with pytest.raises(DataError, match=r"move them there$"):
        load(tmp_path)


def test_splits_are_those_of_folders_and_others_are_counted(tmp_path: Path) -> None:
    save(
        tmp_path,
        *(f"{split}/{k}_{n}.png" for split in ("train", "test") for k in "ab" for n in range(4)),
        "cover.png",
    )
    data = load(tmp_path, class_pattern="/([ab])_")
    assert all(id_.startswith("test/") for id_ in data.test.ids)
    assert len(data.test) == 8
    assert note(data, "Read 2 classes from the names").endswith("(data.class_pattern): a, b.")
    assert note(data, "Left out 1 image that data.class_pattern does not fit") != ""


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "is not a regular expression"), ("(cat)_", "fits no image in .*such as .*x_1.png")],
)
def test_patterns_that_cannot_be_used(tmp_path: Path, pattern: str, message: str) -> None:
    save(tmp_path, "x_1.png", "y_1.png")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, class_pattern=pattern)
