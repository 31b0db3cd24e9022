"""Captions on disk: none is requested twice, and damaged files cost no more than their captions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from gendataagent.core.errors import StorageError
from gendataagent.core.protocols import CaptionRequest
from gendataagent.core.records import ModelDescription
from gendataagent.generation import caption_cache
from gendataagent.generation.caption_cache import CachedCaptioner, caption_folder, image_key


class ColourCaptioner:
    """The smallest real captioner: the colour of the first pixel, in batches of two."""

    def __init__(self, name: str = "colours", revision: str = "1", **settings: str | int) -> None:
        self.description = ModelDescription(name=name, revision=revision)
        self.cache_settings: Mapping[str, str | int] = settings
        self.asked: list[str] = []
        self.fail_at = ""
        self.revision_when_loaded = revision
        self.released = 0

    def check(self) -> None:
        self.asked.append("check")

    def caption(self, requests: Sequence[CaptionRequest]) -> list[str]:
        made = {k: v for batch in self.caption_batches(requests) for k, v in batch.items()}
        return [made[position] for position in range(len(requests))]

    def caption_batches(self, requests: Sequence[CaptionRequest]) -> Iterator[Mapping[int, str]]:
        self.description = replace(self.description, revision=self.revision_when_loaded)
        for start in range(0, len(requests), 2):
            batch = {}
            # backwards: batches come as they are made, not in order
            for position in reversed(range(start, min(start + 2, len(requests)))):
                batch[position] = self._say(requests[position].image)
            yield batch

    def _say(self, image: Image.Image) -> str:
        try:
            said = str(image.convert("RGB").getpixel((0, 0)))
        except OSError:
            return ""
        if said == self.fail_at:
            raise RuntimeError("the power went")
        self.asked.append(said)
        return said

    def release(self) -> None:
        self.released += 1


class Untouchable(ColourCaptioner):
    """A model that must not be loaded."""

    def caption_batches(self, requests: Sequence[CaptionRequest]) -> Iterator[Mapping[int, str]]:
        raise AssertionError(f"asked for {len(requests)} captions")


def requests_of(*reds: int) -> list[CaptionRequest]:
    return [
        CaptionRequest(image=Image.new("RGB", (8, 6), (red, 0, 0)), class_name="cat", seed=red)
        for red in reds
    ]


def said(*reds: int) -> list[str]:
    return [f"({red}, 0, 0)" for red in reds]


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_a_second_run_loads_no_model(tmp_path: Path) -> None:
    first = CachedCaptioner(ColourCaptioner(), tmp_path / "new" / "folder")
    assert first.caption(requests_of(1, 2, 3, 4, 5)) == said(1, 2, 3, 4, 5)
    assert (first.found, first.made) == (0, 5)
    second = CachedCaptioner(Untouchable(), tmp_path / "new" / "folder")
    assert second.caption(requests_of(5, 3, 1, 3)) == said(5, 3, 1, 3)
    assert (second.found, second.made) == (4, 0)
    assert first.notes == second.notes == ()


def test_only_missing_captions_are_requested_each_once(tmp_path: Path) -> None:
    CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(2, 4))
    inner = ColourCaptioner()
    cached = CachedCaptioner(inner, tmp_path)
    assert cached.caption(requests_of(1, 2, 3, 4, 3, 1)) == said(1, 2, 3, 4, 3, 1)
    assert sorted(inner.asked) == said(1, 3)
    assert cached.caption([]) == []
    assert CachedCaptioner(Untouchable(), tmp_path).caption([]) == []


@pytest.mark.parametrize(
    "other",
    [
        Untouchable("others"), Untouchable(revision="2"), Untouchable(prompt="a"),
        Untouchable(max_tokens=3),
    ],
    ids=["name", "revision", "prompt", "tokens"],
)  # fmt: skip
def test_captions_of_another_model_or_setting_are_not_used(
    other: Untouchable, tmp_path: Path
) -> None:
    CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(1))
    with pytest.raises(AssertionError, match="asked for 1"):
        CachedCaptioner(other, tmp_path).caption(requests_of(1))


def test_an_interrupted_captioning_loses_at_most_its_batch(tmp_path: Path) -> None:
    inner = ColourCaptioner()
    (inner.fail_at,) = said(5)
    with pytest.raises(RuntimeError, match="the power went"):
        CachedCaptioner(inner, tmp_path).caption(requests_of(1, 2, 3, 4, 5, 6))
    again = ColourCaptioner()
    assert CachedCaptioner(again, tmp_path).caption(requests_of(*range(1, 7))) == said(*range(1, 7))
    assert sorted(again.asked) == said(5, 6)


def test_a_torn_last_line_costs_only_its_caption(tmp_path: Path) -> None:
    CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(1, 2, 3))
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    again = ColourCaptioner()
    assert CachedCaptioner(again, tmp_path).caption(requests_of(1, 2, 3, 4)) == said(1, 2, 3, 4)
    assert again.asked[-1:] == said(3)  # and 4 before it: backwards in its batch
    assert len(again.asked) == 2
    # lines appended after the torn one are read
    untouched = CachedCaptioner(Untouchable(), tmp_path)
    assert untouched.caption(requests_of(1, 2, 3, 4)) == said(1, 2, 3, 4)


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe\x00garbage", b"[]", b"3", b'{"image": "x"}', b'{"image": 1, "caption": "y"}',
     b'{"image": "KEY", "caption": null}', b'{"version": 9, "image": {"a": 1}}',
     b'{"image": "KEY", "caption": "' + b"x" * 5000 + b'"}', b"[" * 100_000],
)  # fmt: skip
def test_lines_that_are_no_captions_are_skipped(line: bytes, tmp_path: Path) -> None:
    CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(1))
    path = only_file(tmp_path)
    key = image_key(requests_of(2)[0].image).encode()
    path.write_bytes(line.replace(b"KEY", key) + b"\n" + path.read_bytes())
    inner = ColourCaptioner()
    assert CachedCaptioner(inner, tmp_path).caption(requests_of(1, 2)) == said(1, 2)
    assert inner.asked == said(2)


def test_a_damaged_file_is_rebuilt(tmp_path: Path) -> None:
    CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(1, 2))
    only_file(tmp_path).write_bytes(bytes(range(256)) * 50)
    assert CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(1, 2)) == said(1, 2)
    assert CachedCaptioner(Untouchable(), tmp_path).caption(requests_of(1, 2)) == said(1, 2)


def test_an_unusable_folder_is_a_note_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cached = CachedCaptioner(ColourCaptioner(), tmp_path / "file" / "captions")
    assert cached.caption(requests_of(1, 2, 3)) == said(1, 2, 3)
    assert cached.caption(requests_of(3)) == said(3)
    assert cached.made == 3  # within this run they are still known
    assert any("prompting.caption_cache" in note for note in cached.notes)
    assert len(cached.notes) <= 2


def test_a_full_disk_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    cached = CachedCaptioner(ColourCaptioner(), tmp_path)
    assert cached.caption(requests_of(1, 2, 3)) == said(1, 2, 3)
    (note,) = cached.notes
    assert "No space left on device" in note


def test_a_batch_is_one_write_and_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    synced_bytes: list[int] = []
    real = os.fsync

    def counting(handle: int) -> None:
        synced_bytes.append(os.fstat(handle).st_size)
        real(handle)

    monkeypatch.setattr(os, "fsync", counting)
    CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(*range(7)))
    assert len(set(synced_bytes)) == len(synced_bytes) == 4
    assert synced_bytes[0] > 0
    assert synced_bytes[-1] == only_file(tmp_path).stat().st_size


def test_captions_added_by_another_process_are_used(tmp_path: Path) -> None:
    one = CachedCaptioner(ColourCaptioner(), tmp_path)
    one.caption(requests_of(1))
    CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(2, 3))
    assert one.caption(requests_of(3, 2, 1)) == said(3, 2, 1)
    CachedCaptioner(ColourCaptioner(), tmp_path).caption(requests_of(4))
    assert one.caption(requests_of(4, 1)) == said(4, 1)
    assert one.made == 1


def test_two_processes_can_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tests.generation.test_caption_cache import *\n"
        "cached = CachedCaptioner(ColourCaptioner(), Path(sys.argv[1]))\n"
        "for red in range(int(sys.argv[2]), 200, 2):\n"
        "    cached.caption(requests_of(red))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(first)])
        for first in range(2)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    rows = [json.loads(line) for line in only_file(tmp_path).read_bytes().split(b"\n") if line]
    assert len(rows) == 200
    assert CachedCaptioner(Untouchable(), tmp_path).caption(requests_of(*range(200))) == said(
        *range(200)
    )


def test_captions_are_stored_under_the_revision_of_the_loaded_model(tmp_path: Path) -> None:
    inner = ColourCaptioner(revision="")
    inner.revision_when_loaded = "commit"
    cached = CachedCaptioner(inner, tmp_path)
    assert cached.caption(requests_of(1, 2, 3)) == said(1, 2, 3)
    assert cached.caption(requests_of(2)) == said(2)
    assert cached.description.revision == "commit"
    second = CachedCaptioner(Untouchable(revision="commit"), tmp_path)
    assert second.caption(requests_of(1, 2, 3)) == said(1, 2, 3)


def test_any_model_name_gives_a_valid_file_name(tmp_path: Path) -> None:
    for name in ("org/my model: v2", "../../up", "犬", "x" * 400):
        cached = CachedCaptioner(ColourCaptioner(name), tmp_path)
        assert cached.caption(requests_of(1)) == said(1)
        assert cached.notes == ()
    assert len(list(tmp_path.iterdir())) == 4
    assert all(path.is_file() for path in tmp_path.iterdir())


def test_release_reaches_the_model(tmp_path: Path) -> None:
    inner = ColourCaptioner()
    CachedCaptioner(inner, tmp_path).release()
    assert inner.released == 1


def test_the_key_of_an_image_is_its_size_and_pixels() -> None:
    image = Image.new("RGB", (6, 4), (1, 2, 3))
    same = image.copy()
    same.info["comment"] = "another file"
    assert image_key(image) == image_key(same)
    other = image.copy()
    other.putpixel((5, 3), (1, 2, 4))
    turned = Image.new("RGB", (4, 6), (1, 2, 3))
    keys = {image_key(p) for p in (image, other, turned, Image.new("RGB", (8, 3), (1, 2, 3)))}
    assert len(keys) == 4


def test_palettes_and_depths_count() -> None:
    red, blue = Image.new("P", (4, 4), 0), Image.new("P", (4, 4), 0)
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    light, lighter = Image.new("I;16", (4, 4), 40_000), Image.new("I;16", (4, 4), 50_000)
    assert len({image_key(p) for p in (red, blue, light, lighter)}) == 4


def test_the_caption_of_an_unreadable_image_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "torn.png"
    Image.effect_noise((64, 64), 80).save(path)
    path.write_bytes(path.read_bytes()[:500])
    torn = [CaptionRequest(image=Image.open(path), class_name="cat", seed=0) for _ in range(2)]
    cached = CachedCaptioner(ColourCaptioner(), tmp_path / "cache")
    assert cached.caption([torn[0], *requests_of(1), torn[1]]) == ["", *said(1), ""]
    rows = only_file(tmp_path / "cache").read_text().split()
    assert len([row for row in rows if "image" in row]) == 1


# The folder


def test_off_is_no_folder_and_a_path_is_that_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert caption_folder("off") is None
    assert caption_folder("") is None
    assert caption_folder("/data/captions") == Path("/data/captions")
    assert caption_folder("~/captions") == Path("/home/somebody/captions")


def test_auto_is_in_the_cache_folder_of_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path))
    assert caption_folder("auto") == tmp_path / "captions"


def test_a_user_without_a_home_folder_keeps_no_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_cache, "cache_folder", no_home)
    assert caption_folder("auto") is None


def no_home() -> Path:
    raise StorageError("no home folder")


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, gendataagent.generation.caption_cache; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers"} & set(out.stdout.split())


def test_check_reaches_the_inner_captioner(tmp_path: Path) -> None:
    inner = ColourCaptioner()
    CachedCaptioner(inner, tmp_path).check()
    assert inner.asked == ["check"]
