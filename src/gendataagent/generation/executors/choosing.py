"""The executor that the settings want, and what "auto" means here."""

from __future__ import annotations

import os

from gendataagent.config import AUTO, GenerationConfig
from gendataagent.core.devices import gpus_of
from gendataagent.core.errors import ConfigError
from gendataagent.generation.executors.process import ProcessExecutor
from gendataagent.generation.executors.ray_connection import (
    ADDRESS_VARIABLE,
    check_installed,
    is_installed,
)
from gendataagent.generation.executors.ray_executor import RayExecutor
from gendataagent.generation.executors.serial import SerialExecutor
from gendataagent.generation.executors.worker import SharedExecutor

SERIAL, PROCESS, RAY = "serial", "process", "ray"


def chosen(settings: GenerationConfig, device: str) -> str:
    """Return serial, process or ray.

    auto = ray where a cluster's address is given; with several GPUs ray where it is installed, else
    process; process where there are workers; else serial.

    Args:
        device: of the generator, as torch names it.

    Raises:
        ConfigError: ray is needed and not installed, or the device names one GPU.
    """
    kind = settings.executor
    if kind == AUTO:
        if settings.ray_address:
            why = "generation.ray_address"
        elif os.environ.get(ADDRESS_VARIABLE):
            why = f"the cluster in the environment variable {ADDRESS_VARIABLE}"
        elif len(gpus_of(device)) > 1:
            return RAY if is_installed() else PROCESS
        else:
            return PROCESS if settings.workers else SERIAL
        check_installed(why)
        kind = RAY
    if kind == RAY:
        check_installed("generation.executor=ray")
        if device.startswith("cuda:"):
            raise ConfigError(
                f"generation.executor=ray gives each worker a GPU of its own, but device={device} "
                "names one; set device=cuda, and CUDA_VISIBLE_DEVICES to use only some"
            )
    return kind


def executor_of(settings: GenerationConfig, device: str) -> SharedExecutor:
    """Return the executor of the settings; it starts nothing yet. Raises as `chosen`."""
    kind = chosen(settings, device)
    if kind == SERIAL:
        return SerialExecutor()
    if kind == RAY:
        return RayExecutor(
            settings.ray_address,
            workers=settings.workers,
            gpus_per_worker=settings.gpus_per_worker if device == "cuda" else 0.0,
            device=device,
            wait_s=settings.wait_for_workers_s,
        )
    gpus = gpus_of(device)
    each_gpu = int(1 / settings.gpus_per_worker + 1e-6)
    return ProcessExecutor(settings.workers or max(1, len(gpus) * each_gpu), gpus)
