"""Class names in words, in folders and tables; ids and label order are unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.config import DataConfig
from gendataagent.data import load_data
from gendataagent.data.class_names import readable_class_names
from tests.data import official_trees as trees


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("n02123045", "n01440764"), ("tabby cat", "tench")),
        (("n99999999", "n0212304", "xn02123045"), ("n99999999", "n0212304", "xn02123045")),
        (("001.Black_footed_Albatross", "012.Crow"), ("Black footed Albatross", "Crow")),
        (("001.Black_footed_Albatross", "Crow"), ("001.Black footed Albatross", "Crow")),
        (("n02085620-Chihuahua", "n02085782-Japanese_spaniel"), ("Chihuahua", "Japanese spaniel")),
        (("n02085620-Chihuahua", "cat"), ("n02085620-Chihuahua", "cat")),
        (("1.5", "2.5"), ("1.5", "2.5")),
        (("2023.01", "2024.01"), ("2023.01", "2024.01")),
        (("yorkshire_terrier", "pug"), ("yorkshire terrier", "pug")),
        (("cat_a", "cat a", "cat_b"), ("cat_a", "cat a", "cat b")),
        (("Red_Fox", "red_fox"), ("Red_Fox", "red_fox")),
        (("n02123045", "tabby_cat"), ("n02123045", "tabby_cat")),
        (("01. 02.x", "02.x", "03.x"), ("01. 02.x", "02.x", "03.x")),
        (("_", "éléphant", "犬"), ("_", "éléphant", "犬")),
        ((), ()),
    ],
)  # fmt: skip
def test_names_become_words_unless_two_would_be_the_same(
    names: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert readable_class_names(names) == words


def test_a_plain_folder_keeps_its_ids_and_label_order(tmp_path: Path) -> None:
    for name in ("n01440764", "n02123045", "b_c", "ant"):
        for number in range(3):
            trees.jpeg(tmp_path / name / f"{number}.jpg")
    data = load_data(DataConfig(path=str(tmp_path)), seed=0)
    assert data.class_names == ("ant", "b c", "tench", "tabby cat")  # as the folders are sorted
    rows = {row["id"]: (row["class"], row["label"]) for row in data.to_rows()}
    assert rows["n02123045/0.jpg"] == ("tabby cat", 3)
    assert rows["b_c/1.jpg"] == ("b c", 1)
    (found,) = [text for text in data.notes if text.startswith("Class names were made")]
    assert found == (
        "Class names were made readable: b_c -> 'b c', n01440764 -> 'tench' and 1 more."
    )
