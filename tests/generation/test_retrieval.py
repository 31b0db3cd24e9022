"""Images found in an unlabelled folder: the nearest, each once, no copies, in any batch."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from gendataagent.agent.provenance import read_provenance
from gendataagent.config import RunConfig
from gendataagent.core.errors import ConfigError, DataError
from gendataagent.core.protocols import Rendered, RenderRequest
from gendataagent.generation.backends import build_generator, name_problems
from gendataagent.generation.image_text import ImageTextEncoder
from gendataagent.generation.retrieval import RetrievalFactory
from tests.generation.conformance import render_request
from tests.tiny_models import save_tiny_clip

IMAGES = 40


def picture(number: int, side: int = 48) -> Image.Image:
    """Return a smooth image with a look of its own."""
    values = np.random.default_rng(number).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((side + 8, side), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of images, one of them broken, in two sub-folders, and a tiny CLIP."""
    root = tmp_path_factory.mktemp("world")
    for number in range(IMAGES):
        path = root / "own" / f"part {number % 2}" / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    (root / "own" / "broken.jpg").write_bytes(b"no image")
    return root / "own", save_tiny_clip(root / "clip")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENDATAAGENT_CACHE", str(tmp_path / "cache"))


def config_of(world: tuple[Path, Path], **generation: Any) -> RunConfig:
    named = {"generator": "retrieval", "retrieval_folder": str(world[0]),
             "retrieval_model": str(world[1])}  # fmt: skip
    return RunConfig.from_dict({"device": "cpu", "generation": {**named, **generation}})


def names_of(results: Sequence[Rendered]) -> list[str]:
    return [read_provenance(r.image)["original"] for r in results if r.image is not None]


def request(number: int, variant: int = 0) -> RenderRequest:
    return render_request(number, source=picture(100 + number), variant=variant)


def test_the_nth_image_is_the_nth_nearest_by_the_encoder(world: tuple[Path, Path]) -> None:
    generator = build_generator(config_of(world))()
    found = names_of(generator.render([request(0, variant) for variant in range(5)]))
    assert len(set(found)) == 5
    factory = build_generator(config_of(world))
    assert isinstance(factory, RetrievalFactory)
    encoder = ImageTextEncoder(factory._source, torch.device("cpu"))
    files = sorted(world[0].glob("*/*.png"))
    own = encoder.images(lambda i: Image.open(files[i]).convert("RGB"), len(files))
    query = encoder.images(lambda _: request(0).source, 1)[0]
    nearest = (own @ query).sort(descending=True, stable=True).indices[:5].tolist()
    assert found == [files[row].relative_to(world[0]).as_posix() for row in nearest]


def test_an_answer_does_not_depend_on_its_neighbours_and_the_factory_travels(
    world: tuple[Path, Path],
) -> None:
    factory = pickle.loads(pickle.dumps(build_generator(config_of(world))))
    generator = factory()
    requests = [request(number, number % 3) for number in range(7)]
    together = generator.render(requests)
    alone = [generator.render([one])[0] for one in requests]
    assert [r.png for r in together] == [r.png for r in alone]
    assert [r.png for r in factory().render(requests[::-1])][::-1] == [r.png for r in together]
    assert generator.render([]) == []
    assert generator.description == factory.describe()


def test_a_copy_of_the_source_is_no_answer_and_the_folder_ends(world: tuple[Path, Path]) -> None:
    generator = build_generator(config_of(world))()
    mirrored = picture(7).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for source in (picture(7), mirrored):
        requests = [
            render_request(1, source=source, variant=variant) for variant in range(IMAGES + 1)
        ]
        results = generator.render(requests)
        found = names_of(results)
        assert len(found) == len(set(found)) == IMAGES - 1
        assert "part 1/07.png" not in found
        assert [r.rejected_by for r in results[-2:]] == ["no-more-images"] * 2


def test_squares_are_never_enlarged_and_at_most_of_the_size_asked_for(
    world: tuple[Path, Path],
) -> None:
    for asked, side in ((0, 48), (32, 32), (64, 48)):
        (result,) = build_generator(config_of(world, size_px=asked))().render([request(3)])
        assert result.image is not None
        assert result.image.size == (side, side)


def test_features_are_computed_once_and_again_where_the_folder_or_the_cache_changes(
    world: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    images = ImageTextEncoder.images

    def counting(self: ImageTextEncoder, image_at: Any, count: int) -> torch.Tensor:
        encoded.append(count)
        return images(self, image_at, count)

    monkeypatch.setattr(ImageTextEncoder, "images", counting)
    first = build_generator(config_of(world))().render([request(1)])
    assert encoded == [1, IMAGES]
    again = build_generator(config_of(world))().render([request(1)])
    assert encoded == [1, IMAGES, 1]
    (cached,) = (tmp_path / "cache" / "retrieval").glob("*.npy")
    cached.write_bytes(b"damaged")
    third = build_generator(config_of(world))().render([request(1)])
    assert encoded == [1, IMAGES, 1, 1, IMAGES]
    assert [r[0].png for r in (first, again, third)] == [first[0].png] * 3


def test_another_folder_is_another_model(world: tuple[Path, Path], tmp_path: Path) -> None:
    picture(1).save(tmp_path / "one.png")
    one = build_generator(config_of(world)).describe()
    other = build_generator(config_of((tmp_path, world[1]))).describe()
    assert (one.name, other.name) == ("retrieval", "retrieval")
    assert one.revision != other.revision
    picture(2).save(tmp_path / "two.png")
    assert build_generator(config_of((tmp_path, world[1]))).describe() != other


def test_swapped_images_of_one_size_are_another_folder_and_a_moved_one_is_the_same(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    one, other = tmp_path / "own" / "1.bmp", tmp_path / "own" / "2.bmp"
    one.parent.mkdir()
    for number, path in enumerate((one, other)):
        picture(number).save(path)
        os.utime(path, ns=(1, 1))
    before = build_generator(config_of((one.parent, world[1]))).describe()
    shutil.copytree(one.parent, tmp_path / "moved")
    assert build_generator(config_of((tmp_path / "moved", world[1]))).describe() == before
    one.rename(tmp_path / "aside.bmp")
    other.rename(one)
    (tmp_path / "aside.bmp").rename(other)
    assert build_generator(config_of((one.parent, world[1]))).describe() != before


def test_images_that_a_table_names_are_part_of_the_folder(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "images").mkdir()
    table, image = tmp_path / "tables" / "a.parquet", tmp_path / "images" / "1.png"
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "1.png"}] * 2}), table)
    picture(1).save(image)
    own = config_of((table, world[1]))
    own = replace(own, data=replace(own.data, image_root=str(image.parent)))
    before = build_generator(own).describe()
    picture(2).save(image)
    assert build_generator(own).describe() != before
    picture(1).save(image)
    assert build_generator(own).describe() == before
    image.unlink()
    assert build_generator(own).describe() != before


def test_a_folder_of_unreadable_images_is_refused_before_anything_is_spent(
    world: tuple[Path, Path], tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"not an image")
    factory = build_generator(config_of((tmp_path, world[1])))
    assert isinstance(factory, RetrievalFactory)
    with pytest.raises(DataError, match=r"retrieval_folder: no readable image in"):
        factory.check()
    picture(1).save(tmp_path / "3.png")
    factory.check()


def test_what_is_missing_is_named(world: tuple[Path, Path], tmp_path: Path) -> None:
    (no_folder,) = name_problems(config_of(world, retrieval_folder=""))
    assert no_folder.startswith("generation.retrieval_folder is required")
    (lost,) = name_problems(config_of(world, retrieval_folder=str(tmp_path / "lost")))
    assert lost.startswith("generation.retrieval_folder: there is no folder")
    (tmp_path / "one.png").write_bytes(b"")
    (tmp_path / "tables").mkdir()
    pq.write_table(
        pa.table({"image": [{"bytes": None, "path": "../../mine.png"}]}),
        tmp_path / "tables" / "a.parquet",
    )
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    for name, said in (
        ("empty", "there is no image in"),
        ("one.png", "is neither a folder nor a parquet file"),
        ("text.parquet", "no image column"),
        ("tables", r"names the image '../../mine\.png', outside"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        factory = build_generator(config_of((tmp_path / name, world[1])))
        assert isinstance(factory, RetrievalFactory)
        with pytest.raises(DataError, match=rf"retrieval_folder: .*{said}"):
            factory.check()
    with pytest.raises(ConfigError, match=r"retrieval only finds images; set adaptation\.enabled"):
        RunConfig.from_dict({"adaptation": {"enabled": True},
                             "generation": {"generator": "retrieval"}})  # fmt: skip
