"""How many processes train, and starts by `accelerate launch` or `torchrun`, which say so too.

These start the command several times. A run has one main process, which starts the processes that
train beside it itself, so the first of them stays and the others end at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

from gendataagent.core.devices import AUTO, gpus_of
from gendataagent.core.errors import ConfigError
from gendataagent.core.processes import end_with_parent
from gendataagent.core.text import whole_number

_LAUNCHED = "GENDATAAGENT_LAUNCHED_PROCESSES"
_RANK, _WORLD = "RANK", "WORLD_SIZE"
# Accelerate and torch would wait for the processes that have ended.
_OF_LAUNCHERS = (
    _RANK, _WORLD, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_USE_AGENT_STORE",
)  # fmt: skip
_OWN_LOOP = (
    "a loop of your own with the agent is one process, as each would run the rounds again, in one "
    "folder. Start it with python, not with torchrun or accelerate launch, on one GPU; "
    "gendataagent run can train on several"
)


def take_over_launch(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Return whether this process does the command's work; False = end it, another one does.

    The environment is left as without a launcher, except for the number of processes.

    Raises:
        ConfigError: it was started on several machines.
    """
    rank, world, here = (
        _number(environment.get(name)) for name in (_RANK, _WORLD, "LOCAL_WORLD_SIZE")
    )
    if rank is None or world is None:
        return True
    for name in _OF_LAUNCHERS:
        environment.pop(name, None)
    if rank > 0:
        return False
    if (here or 1) != world:
        raise ConfigError(
            f"started with {world} processes on several machines, but the classifier is trained on "
            "one machine; start it there alone (--num_machines 1). Images can be made on many: see "
            "docs/devices.md"
        )
    environment[_LAUNCHED] = str(world)
    end_with_parent()
    return True


def fewer_than_asked(environment: Mapping[str, str] = os.environ) -> str:
    """Return a sentence if accelerate was asked for several processes and started one; else ""."""
    if "ACCELERATE_MIXED_PRECISION" not in environment or "MASTER_ADDR" not in environment:
        return ""
    return (
        "accelerate launch has started one process only, as it does without several GPUs; "
        "--set training.processes=N trains with N, as does accelerate launch --multi_gpu"
    )


def check_started_once() -> None:
    """Raise `ConfigError` if this process is one of several that a launcher started."""
    world = _number(os.environ.get(_WORLD)) or 1
    if world > 1:
        raise ConfigError(
            f"this script was started {world} times by a launcher (accelerate, torchrun), but a "
            "run starts the processes that it needs itself; start the script with python, and set "
            f"training.processes={world}"
        )


def check_own_loop(processes: int | None = None) -> None:
    """Raise `ConfigError` if several processes train in a loop of the user's own.

    Args:
        processes: that train; None = as a launcher says.
    """
    count = processes if processes is not None else _number(os.environ.get(_WORLD))
    if count is not None and count > 1:
        raise ConfigError(f"{count} processes train together; {_OWN_LOOP}")


def check_first_process() -> None:
    """Raise `ConfigError` in all processes of a launcher but the first."""
    rank = _number(os.environ.get(_RANK)) or _number(os.environ.get("LOCAL_RANK")) or 0
    if rank > 0:
        raise ConfigError(f"this is process {rank + 1} of a launcher; {_OWN_LOOP}")


def _has_backend(name: str) -> bool:
    from torch import distributed

    return distributed.is_available() and distributed.is_backend_available(name)


def _number(text: str | None) -> int | None:
    return None if text is None else whole_number(text)


def processes_of(wanted: int | str, device: str, *, auto_alone: bool = False) -> int:
    """Return how many processes train.

    Args:
        wanted: training.processes.
        device: of the classifier, as torch names it.
        auto_alone: auto = 1.

    Raises:
        ConfigError: the device, or the launcher, does not allow that many.
    """
    launched = os.environ.get(_LAUNCHED)
    if launched is not None:
        if wanted not in (AUTO, int(launched)):
            raise ConfigError(
                f"the launcher started {launched} processes, but training.processes is {wanted}; "
                f"set training.processes={launched}, which changes results by rounding only, or "
                f"start {wanted}"
            )
        wanted = int(launched)
    gpus = len(gpus_of(device))
    if wanted == AUTO:
        return 1 if auto_alone or gpus < 2 or not _has_backend("nccl") else gpus
    number = int(wanted)
    if number == 1:
        return number
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            f"training.processes is {number}, but device={device} is one device; set "
            "training.processes=1, or device=cuda, and CUDA_VISIBLE_DEVICES to use only some GPUs"
        )
    backend = "gloo" if device == "cpu" else "nccl"
    if not _has_backend(backend):
        raise ConfigError(
            f"training.processes is {number}, but this torch has no {backend}, through which "
            "processes exchange gradients; set training.processes=1"
        )
    if device == "cpu" or number <= gpus:
        return number
    raise ConfigError(
        f"training.processes is {number}, but there {'is' if gpus == 1 else 'are'} {gpus} "
        f"{'GPU' if gpus == 1 else 'GPUs'}, and each process needs one; set "
        f"training.processes={gpus}, which changes results by rounding only"
    )
