"""Images per second of the bundled generator with one and with two workers, by executor.

Each figure is the median of some repetitions, taken in turns, since other work on the machine
changes all of them. On as many free cores as workers, two workers make twice the images of one.

    python scripts/devices/workers.py --images 96 --repeat 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

from gendataagent.config import RunConfig
from gendataagent.core.devices import cpu_threads
from gendataagent.core.protocols import RenderRequest
from gendataagent.data import load_data
from gendataagent.generation.backends import GeneratorFactory, build_generator
from gendataagent.generation.executors import ProcessExecutor, SerialExecutor
from gendataagent.generation.executors.ray_executor import RayExecutor
from gendataagent.generation.executors.worker import SharedExecutor

CHUNK = 8
EXECUTORS: dict[str, Callable[[], SharedExecutor]] = {
    "serial": SerialExecutor,
    "process 1": lambda: ProcessExecutor(1),
    "process 2": lambda: ProcessExecutor(2),
    "ray 1": lambda: RayExecutor(workers=1),
    "ray 2": lambda: RayExecutor(workers=2),
}


def requests(config: RunConfig, number: int) -> list[RenderRequest]:
    """Return requests for photographs of the bundled set."""
    images = load_data(config.data, seed=0).train
    settings = config.generation
    return [
        RenderRequest(
            source=images.image(index % len(images)),
            prompt="A photo of a thing",
            negative_prompt="",
            seed=index,
            strength=settings.strength,
            guidance_scale=settings.guidance,
            num_inference_steps=settings.steps,
        )
        for index in range(number)
    ]


def images_per_s(
    executor: SharedExecutor, factory: GeneratorFactory, made: list[RenderRequest]
) -> float:
    """Return the rate after the workers have started and built their generators."""
    warm_up = [made[:1]] * (4 * executor.width)
    list(executor.map(factory, warm_up))
    start = time.perf_counter()
    for _ in executor.map(factory, [made[i : i + CHUNK] for i in range(0, len(made), CHUNK)]):
        pass
    rate = len(made) / (time.perf_counter() - start)
    executor.release()
    return rate


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    config = RunConfig.from_dict(
        {
            "device": "cpu",
            "data": {"path": "bundled:cifar10"},
            "generation": {"generator": "tiny-sd", "batch_size": CHUNK},
        }
    )
    factory, made = build_generator(config), requests(config, chosen.images)
    rates: dict[str, list[float]] = {name: [] for name in EXECUTORS}
    with cpu_threads(1):
        for _ in range(chosen.repeat):
            for name, build in EXECUTORS.items():
                rates[name].append(images_per_s(build(), factory, made))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    shares = {
        f"{kind}: two workers / twice one": medians[f"{kind} 2"] / (2 * medians[f"{kind} 1"])
        for kind in ("process", "ray")
    }
    print(json.dumps({"images_per_s": medians, "all": rates, **shares}, indent=2))


if __name__ == "__main__":
    main()
