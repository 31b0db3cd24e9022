"""What agent.overlap gains: the same settings with images made between epochs, and beside them.

    python scripts/evidence/overlap_gain.py config.toml --work runs/overlap-gain

The settings must have agent.overlap=true and generation.workers of at least 1. G is the time to
make all images and T the time to train between the first round and the last use, both while the
other waits; the ceiling is (G + T) / max(G, T). Printed with it: what the run beside training
reached, from its training seconds in that span and the seconds it waited for images.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

from gendataagent.agent.schedule import Schedule
from gendataagent.config import RunConfig
from gendataagent.core import files
from gendataagent.generation.backends import build_backends
from gendataagent.generation.executors import ProcessExecutor
from gendataagent.runs.run import run


class Waiting(ProcessExecutor):
    """Workers that are used only while training waits."""

    elsewhere = False


@dataclass(frozen=True)
class Measured:
    """Seconds of one run."""

    render: float
    train: float
    wait: float
    wall: float


def main() -> None:
    """Make both runs and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/overlap-gain"))
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    config = RunConfig.from_toml(arguments.config)
    for repeat in range(arguments.repeats):
        between = measure(config, arguments.work / f"between-{repeat}", beside=False)
        beside = measure(config, arguments.work / f"beside-{repeat}", beside=True)
        both, took = between.render + between.train, beside.train + beside.wait
        ceiling, reached = both / max(between.render, between.train), both / took
        print(
            f"G {between.render:.1f} s, T {between.train:.1f} s, one after the other {both:.1f} s"
        )
        print(f"beside each other {took:.1f} s: training {beside.train:.1f}, then waiting")
        print(f"{reached:.2f} times, ceiling {ceiling:.2f}: {reached / ceiling:.0%} of it")


def measure(config: RunConfig, out: Path, *, beside: bool) -> Measured:
    """Make one run and return its seconds between the first round and the last use."""
    kind = ProcessExecutor if beside else Waiting
    backends = replace(build_backends(config), executor=kind(config.generation.workers))
    start = time.perf_counter()
    result = run(config, out, backends=backends)
    wall = time.perf_counter() - start
    backends.executor.release()
    schedule = Schedule.from_config(config)
    first, last = schedule.round_epochs[0], schedule.enter_epochs[-1]
    rows = files.read_jsonl(out / "metrics.jsonl")
    return Measured(
        render=sum(record.seconds["render"] for record in result.rounds),
        train=sum(row["seconds"] for row in rows if first < row["epoch"] <= last),
        wait=sum(record.seconds.get("wait", 0.0) for record in result.rounds),
        wall=wall,
    )


if __name__ == "__main__":
    main()
