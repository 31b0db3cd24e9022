"""cat_0001.jpg, train/dog.12.jpg: the class is in the name of the file."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gendataagent.core.errors import ConfigError, DataError
from gendataagent.data import name_patterns
from gendataagent.data.name_patterns import USUAL_NAME
from gendataagent.data.pattern_search import search
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
    [
        ("(", "is not a regular expression"),
        ("(cat)_", "fits no image in .*such as .*x_1.png"),
        ("(x){99999999999999}", "is not a regular expression .the repetition number is too large"),
        ("(" * 5000 + ")" * 5000, "is not a regular expression .maximum recursion depth"),
        ("(?=)", "fits no image"),
        ("x|(cat)", "fits no image"),
    ],
)
def test_patterns_that_cannot_be_used(tmp_path: Path, pattern: str, message: str) -> None:
    save(tmp_path, "x_1.png", "y_1.png")
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, class_pattern=pattern)


@pytest.mark.parametrize("setting", ["class_pattern", "group_by"])
def test_a_pattern_that_would_search_for_years_is_refused_naming_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    save(tmp_path, *(f"{kind}/{kind}_{n}.png" for kind in "ab" for n in range(6)))
    save(tmp_path, f"b/{'a' * 60}_7.png")
    monkeypatch.setattr(name_patterns, "_PATIENCE_S", 0.5)
    with pytest.raises(ConfigError, match=rf"data\.{setting} .*too long to search '.*aaa_7.png'"):
        load(tmp_path, **{setting: "((a+)+$|[ab]_)"})


def test_an_image_in_whose_name_the_bracket_takes_no_part_is_left_out(tmp_path: Path) -> None:
    save(tmp_path, *(f"{kind}_{n}.png" for kind in ("cat", "dog", "cow") for n in range(8)))
    data = load(tmp_path, class_pattern="(?:(cat|dog)|cow)_")
    assert data.class_names == ("cat", "dog")
    assert note(data, "Left out 8 images that data.class_pattern does not fit") != ""


PIECES = st.sampled_from([
    "(", ")", "(?:", "(?P<n>", "[", "]", "[^/]", "*", "+", "?", "{2}", "{99999999999}", "|", "^",
    "$", ".", r"\d", r"\1", "\\", "cat", "dog", "_", "/", "(?i)", "(?<=", "\0", "\ud800",
])  # fmt: skip
PATHS = ("train/cat_1.png", "cat_2.png", "dog.3.png", "Cat 4.png")


@given(pattern=st.lists(PIECES, max_size=8).map("".join))
@example(pattern="(cat){99999999999}")
def test_any_pattern_names_images_or_is_refused_with_the_reason(pattern: str) -> None:
    with contextlib.suppress(ValueError):
        found = list(search(pattern, PATHS))
        fitting = [match and match.groups() for match in map(re.compile(pattern).search, PATHS)]
        for name, groups in zip(found, fitting, strict=True):
            assert name is None or not groups or name == groups[0]
