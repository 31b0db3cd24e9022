"""Connecting to a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
from typing import Any

from gendataagent.core.errors import ConfigError, GenerationError
from gendataagent.core.text import reason_of

ADDRESS_VARIABLE = "RAY_ADDRESS"
_INSTALL = "pip install 'gendataagent[ray]'"
_STORE_BYTES = 2 << 30  # at most, where the cluster is this machine: only tasks on their way


def is_installed() -> bool:
    return importlib.util.find_spec("ray") is not None


def check_installed(why: str) -> None:
    """Raise `ConfigError` unless Ray can be imported; `why` names the setting that needs it."""
    if not is_installed():
        raise ConfigError(
            f"{why} needs the package ray, which is not installed: {_INSTALL}; or set "
            "generation.executor=process"
        )


def connect(address: str, *, cpus: int) -> Any:
    """Return Ray's module, connected to a cluster.

    A connection that this process has already is used. Without an address, a cluster is started on
    this machine, which ends with this process.

    Args:
        address: of the cluster; "" = that in the environment, if any.
        cpus: CPUs that a cluster on this machine offers at least.

    Raises:
        GenerationError: the cluster cannot be reached or started.
    """
    check_installed("generation.executor=ray")
    # Ray reports usage to its makers by default; here only if the user says so.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    handler = signal.getsignal(signal.SIGTERM)
    address = address or os.environ.get(ADDRESS_VARIABLE, "")
    if not address and "ray" not in sys.modules:  # Ray reads it when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # its default, without the words on it
    try:
        import ray

        if not ray.is_initialized():
            quiet = {"log_to_driver": False, "configure_logging": False}
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init(
                    address="local",
                    num_cpus=max(cpus, os.cpu_count() or 1),
                    include_dashboard=False,
                    object_store_memory=min(_STORE_BYTES, _third_of_memory()),
                    **quiet,
                )
        return ray
    except Exception as error:  # Ray raises a dozen kinds
        reason = reason_of(error)
        raise GenerationError(
            f"the Ray cluster {address or 'on this machine'} cannot be used: {reason}. Check that "
            "it runs (ray status), and generation.ray_address; or set generation.executor=process"
        ) from error
    finally:
        # Ray sets one of its own, which would end a run without the word that it can be resumed.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _third_of_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total // 3)
