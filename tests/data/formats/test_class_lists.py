"""Lists of class names beside the data name each number once, or are refused with the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendataagent.core.errors import DataError
from gendataagent.data.formats.class_lists import class_list_for, read_class_list


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("classes.txt", "cat\ndog\n", ("cat", "dog")),
        ("classes.txt", "\ufeffcat\r\ndog\r\n\r\n \n", ("cat", "dog")),
        ("classes.txt", "cat\rdog", ("cat", "dog")),
        ("classes.txt", "cat\u2028kitten\ndog\x85\n", ("cat\u2028kitten", "dog")),
        ("classes.txt", "0 cat\n1 dog\n", ("cat", "dog")),
        ("classes.txt", "1: dog\n0: big cat\n", ("big cat", "dog")),
        ("classes.txt", "101 dalmatians\n7 dwarfs\n", ("101 dalmatians", "7 dwarfs")),
        ("classes.json", '["cat", "dog"]', ("cat", "dog")),
        ("classes.json", '{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("classes.json", '{"dog": 1, "cat": 0}', ("cat", "dog")),
    ],
)
def test_names_of_the_numbers(
    tmp_path: Path, name: str, content: str, names: tuple[str, ...]
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_class_list(path) == names


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("classes.txt", "cat\n\ndog\n", "line 2 is blank"),
        ("classes.txt", "\ncat\ndog\n", "line 1 is blank"),
        ("classes.txt", "cat\r\n\u200b \r\ndog", "line 2 is blank"),
        ("classes.json", '["cat", " ", "dog"]', "the name of number 1 is empty"),
        ("classes.json", '{"0": "cat", "2": "dog"}', "names the numbers 0, 2; needed are 0 to 1"),
        ("classes.json", '{"1": "cat", "2": "dog"}', "names the numbers 1, 2; needed are 0 to 1"),
        ("classes.json", '{"0": "cat", "00": "dog"}', "names the numbers 0; needed are 0 to 1"),
        ("classes.json", '{"cat": 0, "dog": 0}', "gives two names the same number"),
        ("classes.json", '{"cat": 0, "dog": 2}', "names the numbers 0, 2; needed are 0 to 1"),
        ("classes.json", '["cat", 3]', "it is no list of names"),
    ],
)
def test_an_uncertain_list_is_refused(tmp_path: Path, name: str, content: str, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    with pytest.raises(DataError, match=rf"{name}: .*{reason}.*\. Correct or remove it"):
        read_class_list(path)


def test_the_nearest_list_counts(tmp_path: Path) -> None:
    for place in ("train", "test/a"):
        (tmp_path / "data" / place).mkdir(parents=True)
    root = tmp_path / "data"
    assert class_list_for(root, root / "train") is None
    (tmp_path / "classes.txt").write_text("out of reach\n")
    (root / "classes.txt").write_text("cat\n")
    (root / "test/classes.txt").write_text("dog\n")
    assert class_list_for(root, root / "train") == root / "classes.txt"
    assert class_list_for(root, root / "test/a") == root / "test/classes.txt"
    assert class_list_for(root / "train", root / "train") == root / "classes.txt"


def test_two_lists_that_differ_are_refused_with_both(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "classes.json").write_text('["cat", "dog"]')
    assert class_list_for(tmp_path, tmp_path) == tmp_path / "classes.json"
    (tmp_path / "classes.json").write_text('["dog", "cat"]')
    with pytest.raises(DataError, match=r"two lists of classes: classes\.json has 'dog', 'cat'; "
                       r"classes\.txt has 'cat', 'dog'"):  # fmt: skip
        class_list_for(tmp_path, tmp_path)
