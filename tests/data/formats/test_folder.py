"""Image folders of every shape, and what is ignored, quarantined or refused in them."""

from __future__ import annotations

import errno
import os
import pickle
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from gendataagent.config import DataConfig
from gendataagent.core.errors import DataError, ImageUnreadableError
from gendataagent.data import ImageSplits, Quarantined, load_data, median_side_px
from gendataagent.data.formats.folder import FolderStore


def save(root: Path, *names: str, size: tuple[int, int] = (8, 8)) -> None:
    """Write one image per name; no two have the same bytes."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save.count += 1  # type: ignore[attr-defined]
        colour = divmod(save.count, 256)  # type: ignore[attr-defined]
        Image.new("RGB", size, (*colour, 0)).save(path, format="PNG")


save.count = 0  # type: ignore[attr-defined]


def load(root: Path, **settings: object) -> ImageSplits:
    return load_data(DataConfig(path=str(root), **settings), seed=0)  # type: ignore[arg-type]


def all_ids(data: ImageSplits) -> set[str]:
    return {row["id"] for row in data.to_rows()}


def note(data: ImageSplits, start: str) -> str:
    (found,) = [text for text in data.notes if text.startswith(start)]
    return found


@pytest.fixture
def three_splits(tmp_path: Path) -> Path:
    for split in ("train", "val", "test"):
        save(tmp_path, f"{split}/cat/a.png", f"{split}/dog/a.png")
    return tmp_path


def test_given_splits_are_kept(three_splits: Path) -> None:
    data = load(three_splits)
    assert data.train.ids == ("train/cat/a.png", "train/dog/a.png")
    assert data.validation.ids == ("val/cat/a.png", "val/dog/a.png")
    assert data.test.ids == ("test/cat/a.png", "test/dog/a.png")
    assert data.test.labels == (0, 1)
    assert data.class_names == ("cat", "dog")
    assert data.notes == ()
    row = data.to_rows()[3]
    assert len(row.pop("content")) == 32
    assert row == {"split": "validation", "id": "val/dog/a.png", "class": "dog", "label": 1}


def test_nested_folders_and_suffixes_of_any_case(tmp_path: Path) -> None:
    save(tmp_path, "cat/2020/summer/a.JPG", "cat/b.jpeg", "dog/c.Png", "dog/x/d.WEBP")
    data = load(tmp_path)
    assert all_ids(data) == {
        "cat/2020/summer/a.JPG", "cat/b.jpeg", "dog/c.Png", "dog/x/d.WEBP"
    }  # fmt: skip


def test_hidden_and_other_files_are_counted(tmp_path: Path) -> None:
    save(tmp_path, "cat/a.png", "dog/a.png", "cat/.b.png", ".git/c.png")
    for name in ("cat/notes.txt", "readme.TXT", "labels.csv", "cat/nothing"):
        (tmp_path / name).write_text("x")
    data = load(tmp_path)
    assert all_ids(data) == {"cat/a.png", "dog/a.png"}
    assert note(data, "Ignored 2 hidden")
    assert note(data, "Ignored 4 files") == (
        "Ignored 4 files that are not images (.csv 1, .txt 2, no suffix 1)."
    )


def test_names_with_spaces_accents_and_other_scripts(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Bébé éléphant")
    save(tmp_path, f"{decomposed}/été 1.png", "犬/写真.png")
    data = load(tmp_path)
    assert data.class_names == ("Bébé éléphant", "犬")
    assert data.train.ids == ("Bébé éléphant/été 1.png", "犬/写真.png")
    assert data.train.image(0).size == (8, 8)


def test_one_class_written_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "café")
        save(tmp_path, f"{name}/same.png", f"{name}/{form}.png")
    save(tmp_path, "thé/a.png")
    data = load(tmp_path)
    assert data.class_names == ("café", "thé")
    assert all_ids(data) == {"café/NFC.png", "café/NFD.png", "café/same.png", "thé/a.png"}
    assert [bad.name for bad in data.quarantined] == ["café/same.png"]
    assert "accents" in data.quarantined[0].reason


def test_a_name_that_is_not_utf8_gets_an_encodable_id(tmp_path: Path) -> None:
    save(tmp_path, "cat/a.png", os.fsdecode(b"d\xe9/b.png"))
    data = load(tmp_path)
    assert data.class_names == ("cat", "d\\xe9")
    assert [data.train.ids[1].encode(), data.train.image(1).size] == [b"d\\xe9/b.png", (8, 8)]


def test_unreadable_files_are_quarantined_and_the_others_kept(tmp_path: Path) -> None:
    save(tmp_path, "cat/a.png", "cat/z.png", "dog/a.png", "dog/b.png", "cat/cut.png")
    complete = (tmp_path / "cat/cut.png").read_bytes()
    (tmp_path / "cat/cut.png").write_bytes(complete[:45])
    for progressive in (False, True):
        jpeg = tmp_path / f"dog/cut-{progressive}.jpg"
        Image.effect_noise((64, 64), 50).save(jpeg, progressive=progressive)
        jpeg.write_bytes(jpeg.read_bytes()[:-200])
    (tmp_path / "cat/empty.jpg").touch()
    (tmp_path / "cat/text.jpg").write_text("I am a text.")
    (tmp_path / "dog/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "dog/self.jpg").symlink_to("self.jpg")
    os.mkfifo(tmp_path / "dog/pipe.jpg")
    save(tmp_path, "dog/big.png", size=(80, 70))
    data = load(tmp_path, max_megapixels=0.005)
    assert all_ids(data) == {"cat/a.png", "cat/z.png", "dog/a.png", "dog/b.png"}
    reasons = {bad.name: bad.reason for bad in data.quarantined}
    assert sorted(reasons) == [
        "cat/cut.png", "cat/empty.jpg", "cat/text.jpg", "dog/big.png",
        "dog/cut-False.jpg", "dog/cut-True.jpg", "dog/gone.jpg", "dog/pipe.jpg", "dog/self.jpg",
    ]  # fmt: skip
    assert reasons["cat/empty.jpg"] == "empty (0 bytes)"
    assert "truncated" in reasons["dog/cut-False.jpg"]
    assert "truncated" in reasons["dog/cut-True.jpg"]
    assert reasons["cat/text.jpg"] == "not an image in a format that Pillow reads"
    assert reasons["dog/big.png"].startswith("80 x 70 px is 0.0056 megapixels, allowed are 0.005")
    assert reasons["dog/gone.jpg"].startswith("broken symbolic link")
    assert reasons["dog/self.jpg"].startswith("broken symbolic link")
    assert reasons["dog/pipe.jpg"] == "not a regular file"
    assert note(data, "Unreadable files, folders or rows, quarantined: 9")


def test_a_file_without_permission_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "cat/a.png", "cat/b.png", "dog/a.png")
    (tmp_path / "cat/b.png").chmod(0)
    if os.access(tmp_path / "cat/b.png", os.R_OK):  # root may read everything
        really_open = FolderStore.open

        def refuse(store: FolderStore, row: int) -> object:
            if store.name(row) == "cat/b.png":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return really_open(store, row)

        monkeypatch.setattr(FolderStore, "open", refuse)
    data = load(tmp_path)
    assert data.quarantined == (Quarantined("cat/b.png", "cannot be read: Permission denied"),)


def test_links_to_folders_are_followed_except_to_a_parent(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere", "a.png", "b.png")
    root = tmp_path / "data"
    save(root, "cat/a.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "again").symlink_to(root / "cat")
    data = load(root)
    assert all_ids(data) == {"cat/a.png", "dog/a.png", "dog/b.png"}
    assert note(data, "Ignored symbolic").endswith("not on a disk: cat/again.")


def test_missing_splits_are_drawn_from_a_train_folder(tmp_path: Path) -> None:
    save(tmp_path, *(f"Train/{name}/{n}.png" for name in ("cat", "dog") for n in range(4)))
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert [len(images) for images in data.by_name().values()] == [4, 2, 2]
    assert all(source_id.startswith("Train/") for source_id in all_ids(data))


def test_a_class_may_be_named_train(tmp_path: Path) -> None:
    save(tmp_path, "bus/a.png", "train/a.png")
    assert load(tmp_path).class_names == ("bus", "train")


def test_other_folders_beside_splits_are_ignored_with_a_note(three_splits: Path) -> None:
    save(three_splits, "unlabelled/x/a.png", "train/stray.png", "poster.png")
    data = load(three_splits)
    assert len(all_ids(data)) == 6
    assert note(data, "Ignored 1 image outside a class folder").endswith(": train/stray.png.")
    assert note(data, "Ignored 2 images outside the split folders").endswith(
        ": poster.png, unlabelled/x/a.png."
    )


def test_a_class_folder_without_images_is_dropped_with_a_note(tmp_path: Path) -> None:
    save(tmp_path, "cat/a.png", "dog/a.png")
    (tmp_path / "fox").mkdir()
    data = load(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert note(data, "Dropped 1 class without").endswith(": fox.")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), r"no images in .* It is empty\. Expected class/\*\.jpg"),
        (("a.png", "b.png"), r"no image in .* is in a class folder, .*\(2 images\)"),
        (("train/a.png", "test/a.png"), "the images of train/ in .* are not in class folders"),
        (("cat/a.png", "cat/b.png"), "two classes with readable images .* got cat"),
        (("val/cat/a.png", "test/dog/a.png"), "holds test, val but no train folder"),
        (("val/cat/a.png", "mine/dog/a.png"), "holds mine, val but no train folder"),
        (("train/cat/a.png", "bus/a.png"), "train/ .* sub-folders like a split, but bus beside it"),
        (
            ("train/cat/a.png", "train/dog/a.png", "val/cat/a.png", "valid/cat/a.png"),
            "val and valid in .* name the same split",
        ),
        (
            ("train/cat/a.png", "train/dog/a.png", "test/Fox/a.png"),
            "the test split has images of Fox, .* train has cat, dog",
        ),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    save(tmp_path, *files)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_folder_of_other_files_names_their_kinds(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").touch()
    with pytest.raises(
        DataError, match=r"not an image \(\.zip 1\).*Unpack photos\.zip here, or give"
    ):
        load(tmp_path)


def test_a_data_set_without_readable_images_is_refused(tmp_path: Path) -> None:
    for name in ("cat/a.jpg", "dog/b.jpg"):
        save(tmp_path, name)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        DataError, match=r"no training image .* can be read: cat/a\.jpg \(empty .*dog/b\.jpg"
    ):
        load(tmp_path)


def test_a_path_that_does_not_exist_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"does not exist \(did you mean .*photos\?\)"):
        load(tmp_path / "photo")
    with pytest.raises(DataError, match="no bundled data set 'mnist'; choose bundled:cifar10"):
        load_data(DataConfig(path="bundled:mnist"), seed=0)
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(DataError, match="not a supported file"):
        load(tmp_path / "data.xlsx")


def test_a_class_missing_in_the_given_test_split_is_noted(three_splits: Path) -> None:
    save(three_splits, "train/fox/a.png")
    data = load(three_splits)
    assert data.class_names == ("cat", "dog", "fox")
    assert note(data, "The test split has no").endswith(": fox.")


def test_images_survive_pickling_and_are_found_by_id(three_splits: Path) -> None:
    train = pickle.loads(pickle.dumps(load(three_splits).train))
    assert train.index_of("train/dog/a.png") == 1
    assert train.image(1).getpixel((0, 0)) == load(three_splits).train.image(1).getpixel((0, 0))
    subset = train.subset([1])
    assert (len(subset), subset.ids, subset.labels) == (1, ("train/dog/a.png",), (1,))
    assert subset.image(0).tobytes() == train.image(1).tobytes()
    with pytest.raises(DataError, match="no image with the id 'nope' among the 2"):
        train.index_of("nope")


def test_an_image_lost_after_loading_is_named_in_the_error(three_splits: Path) -> None:
    data = load(three_splits)
    (three_splits / "train/cat/a.png").unlink()
    with pytest.raises(ImageUnreadableError, match=r"cannot read image train/cat/a\.png"):
        data.train.image(0)


def test_median_side_is_that_of_the_shorter_sides(tmp_path: Path) -> None:
    for name, size in (("a", (10, 90)), ("b", (80, 20)), ("c", (30, 30))):
        save(tmp_path, f"train/cat/{name}.png", size=size)
    save(tmp_path, "train/dog/a.png", size=(40, 40))
    data = load(tmp_path, validation_share=0.01, test_share=0.01)
    cats = [i for i, source in enumerate(data.train.ids) if "cat" in source]
    sides = sorted(min(data.train.image(i).size) for i in cats)
    assert median_side_px(data.train.subset(cats)) == sides[len(sides) // 2]
    with pytest.raises(DataError, match="empty"):
        median_side_px(data.train.subset([]))


def test_progress_reaches_the_number_of_images(three_splits: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_data(DataConfig(path=str(three_splits)), seed=0, progress=lambda *step: seen.append(step))
    assert seen == [(6, 6)]
