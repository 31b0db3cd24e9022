"""How many images a second the main process takes from many workers, on a real Ray cluster.

The generators only sleep and return images that are encoded already, so the workers cost next to
no CPU, and what is measured is the main process: reading sources, sending tasks, receiving images,
writing them with their records. Actors are real processes of this machine, so start no more than
its memory holds (about 80 MB each).

    python scripts/devices/driver_ceiling.py --actors 64 --images 4000
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gendataagent.agent.image_writer import ImageWriter
from gendataagent.agent.pool import Pool
from gendataagent.config import GenerationConfig
from gendataagent.core.png import opened, png_bytes
from gendataagent.core.protocols import Rendered, RenderRequest
from gendataagent.core.records import Candidate, ModelDescription, Scored
from gendataagent.core.run_folder import RunFolder
from gendataagent.generation import stages
from gendataagent.generation.executors.ray_executor import RayExecutor

SIDE_PX = 512


def photograph(seed: int) -> Image.Image:
    """Return an image that PNG compresses as a photograph: coarse colours and a little noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC), dtype=float)
    noisy = pixels + rng.normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class Sleeping:
    """A factory of generators that take `seconds_per_image` and encode nothing."""

    seconds_per_image: float

    def __call__(self) -> Sleeper:
        return Sleeper(self.seconds_per_image)


class Sleeper:
    """Returns one of a few images that were encoded before."""

    description = ModelDescription(name="sleeper")

    def __init__(self, seconds_per_image: float) -> None:
        self._seconds = seconds_per_image
        self._made = [png_bytes(photograph(seed)) for seed in range(2)]

    def render(self, requests: Sequence[RenderRequest]) -> list[Rendered]:
        """Return one image per request."""
        time.sleep(self._seconds * len(requests))
        made = [self._made[request.seed % len(self._made)] for request in requests]
        return [Rendered(image=opened(png), png=png) for png in made]


def measure(actors: int, images: int, per_actor_per_s: float, chunk_size: int) -> dict[str, float]:
    """Return images per second after the start, and seconds of CPU per image of this process."""
    place = Path(tempfile.mkdtemp(prefix="ceiling-"))
    try:
        sources = [photograph(100 + seed) for seed in range(8)]
        selected = [Scored(source_id=f"s{i}", label=0, score=0.0) for i in range(images // 5)]
        planned = stages.plan(
            selected,
            round_number=0,
            rewrites=5,
            class_names=["thing"],
            settings=GenerationConfig(),
            run_seed=0,
        )
        pool = Pool(RunFolder(place), ["thing"])
        executor = RayExecutor(workers=actors, wait_s=120)
        candidates = list(planned)
        return _rendered(candidates, executor, sources, pool, per_actor_per_s, chunk_size, actors)
    finally:
        shutil.rmtree(place)


def _rendered(
    planned: list[Candidate],
    executor: RayExecutor,
    sources: list[Image.Image],
    pool: Pool,
    per_actor_per_s: float,
    chunk_size: int,
    actors: int,
) -> dict[str, float]:
    factory = Sleeping(1 / per_actor_per_s)
    warm_up = actors * chunk_size
    done, began, cpu, waited = 0, 0.0, 0.0, 0.0
    with ImageWriter(pool, 0) as writer:
        for batch in stages.render(
            planned,
            executor,
            factory,
            lambda source: sources[int(source[1:]) % len(sources)].copy(),
            batch_size=chunk_size,
        ):
            start = time.perf_counter()
            writer.add(batch, 0.0)
            waited += time.perf_counter() - start
            done += len(batch)
            if not began and done >= warm_up:
                began, cpu, waited, warm_up = time.perf_counter(), _cpu_s(), 0.0, done
    seconds = time.perf_counter() - began
    counted = done - warm_up
    executor.release()
    return {
        "actors": actors,
        "images": counted,
        "images_per_s": counted / seconds,
        "offered_per_s": actors * per_actor_per_s,
        "cpu_ms_per_image": 1000 * (_cpu_s() - cpu) / counted,
        "waiting_for_the_disk_ms_per_image": 1000 * waited / counted,
        "cores": os.cpu_count() or 1,
    }


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--actors", type=int, default=64)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--per-actor-per-s", type=float, default=10.0)
    parser.add_argument("--chunk-size", type=int, default=16)
    chosen = parser.parse_args()
    found = measure(chosen.actors, chosen.images, chosen.per_actor_per_s, chosen.chunk_size)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
