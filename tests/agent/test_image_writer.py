"""Images are written in a thread: all of them, in order, and an error is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gendataagent.agent.image_writer import ImageWriter
from gendataagent.agent.pool import Pool
from gendataagent.config import GenerationConfig
from gendataagent.core.errors import StorageError
from gendataagent.core.records import RenderedCandidate, Scored
from gendataagent.core.run_folder import RunFolder
from gendataagent.generation import stages


def batches_of(number: int) -> list[list[RenderedCandidate]]:
    """Return batches of three images, every fifth of them missing."""
    planned = stages.plan(
        [Scored(source_id=f"s{i}", label=0, score=0.0) for i in range(number)],
        round_number=0,
        rewrites=3,
        class_names=["thing"],
        settings=GenerationConfig(),
        run_seed=0,
    )
    made = [
        RenderedCandidate(candidate, Image.new("RGB", (4, 4), (i, 0, 0)) if i % 5 else None)
        for i, candidate in enumerate(planned)
    ]
    return [made[i : i + 3] for i in range(0, len(made), 3)]


def write(
    pool: Pool, batches: list[list[RenderedCandidate]], then: type[BaseException] | None
) -> None:
    with ImageWriter(pool, 0) as writer:
        for batch in batches:
            writer.add(batch, 0.0)
        if then is not None:
            raise then


def test_everything_is_on_disk_at_the_end_as_if_written_one_by_one(tmp_path: Path) -> None:
    batches = batches_of(30)
    pools = [Pool(RunFolder(tmp_path / name), ["thing"]) for name in ("thread", "plain")]
    with ImageWriter(pools[0], 0) as writer:
        for batch in batches:
            writer.add(batch, 0.5)
    for batch in batches:
        pools[1].add_batch(0, batch, 0.5)
    written = [
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
        for root in (tmp_path / "thread", tmp_path / "plain")
    ]
    assert written[0] == written[1]
    assert len(pools[0].rendered(0)[0]) == 90
    assert pools[0].rendered(0)[1] == 15.0


def test_what_was_handed_over_is_written_when_the_block_fails(tmp_path: Path) -> None:
    pool = Pool(RunFolder(tmp_path), ["thing"])
    with pytest.raises(KeyboardInterrupt):
        write(pool, batches_of(5), KeyboardInterrupt)
    assert len(pool.rendered(0)[0]) == 15


@pytest.mark.parametrize("number", [1, 40])
def test_an_image_that_cannot_be_written_ends_the_block(tmp_path: Path, number: int) -> None:
    (tmp_path / "pool").write_text("not a folder", encoding="utf-8")
    pool = Pool(RunFolder(tmp_path), ["thing"])
    with pytest.raises(StorageError, match="cannot write"):
        write(pool, batches_of(number), None)
    assert pool.rendered(0)[0] == {}
