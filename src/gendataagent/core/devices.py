"""Devices and dtypes by name, their memory, and mixed precision by Hugging Face Accelerate."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from gendataagent.core.errors import (
    ConfigError,
    GenDataAgentError,
    GenerationError,
    MemoryShortError,
)

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

AUTO = "auto"  # a setting that is decided when the run is made

T = TypeVar("T")
R = TypeVar("R")


def resolve_device(name: str) -> str:
    """Return the torch device that a setting names; auto = cuda, else mps, else cpu.

    Raises:
        ConfigError: torch knows no such device, or this machine has none.
    """
    if name == "cpu":
        return name  # without importing torch
    import torch

    if name == AUTO:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}; try auto") from error
    return name


def accelerator_of(device: torch.device, precision: str) -> Accelerator:
    """Return an Accelerator of a precision, whatever the precision of earlier ones was.

    Args:
        precision: "no", "fp16" or "bf16".
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    settings = {"cpu": device.type == "cpu", "mixed_precision": precision}
    try:
        return Accelerator(**settings)
    except ValueError:
        # Accelerate keeps one global state per process and refuses different settings.
        AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(**settings)


@contextlib.contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Let torch use `number` CPU threads in the block, more than there are cores too.

    The bits of sums and products depend on this number, not on that of the cores.

    Args:
        number: 0 = as many as before.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def default_threads(workers: int) -> int:
    """Return torch's number of threads divided by worker processes, at least 1."""
    import torch

    return max(1, torch.get_num_threads() // max(1, workers))


def dtype_name(name: str, device: torch.device | str) -> str:
    """Return the torch dtype of a setting; auto = float16 on a GPU, float32 on a CPU."""
    if name != AUTO:
        return name
    return "float32" if str(device).partition(":")[0] == "cpu" else "float16"


def resolve_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """Return `dtype_name` as torch's own type."""
    import torch

    dtype: torch.dtype = getattr(torch, dtype_name(name, device))
    return dtype


def free_memory() -> None:
    """Run the garbage collector and empty the caches of the GPU.

    Pipelines hold reference cycles, so only a garbage collection frees them.
    """
    gc.collect()
    empty_cache()


def empty_cache() -> None:
    """Return to the GPU the memory that torch holds back; imports no torch by itself."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


# How torch and the system say it where the type of the error does not.
_NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "cannot allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the machine or of its GPU ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).casefold()
    return isinstance(error, RuntimeError | OSError) and any(sign in text for sign in _NO_MEMORY)


@contextlib.contextmanager
def memory_errors(doing: str, instead: str) -> Iterator[None]:
    """Report memory that ran out in the block as `MemoryShortError`.

    Args:
        doing: what needed the memory ("training with batches of 64").
        instead: what to do about it ("lower training.batch_size").
    """
    try:
        yield
    except GenDataAgentError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MemoryShortError(f"memory ran out while {doing} ({reason}); {instead}") from error


class BatchSize:
    """How many items a device takes at a time; halved for good when its memory runs out.

    Args:
        size: items to begin with.
        too_large: the error's sentence when a single item does not fit: what, and what to do.
        make_room: frees memory at the cost of speed before the size is halved; returns whether
            there was something to free.
    """

    def __init__(
        self, size: int, *, too_large: str, make_room: Callable[[], bool] | None = None
    ) -> None:
        self.size = size
        self._too_large = too_large
        self._make_room = make_room or (lambda: False)

    def map(self, work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """Return `work` of all items, given at most `size` at a time, in order.

        Raises:
            GenerationError: the memory does not suffice for one item.
        """
        import torch

        results: list[R] = []
        while len(results) < len(items):
            try:
                results += work(items[len(results) : len(results) + self.size])
                continue
            except torch.OutOfMemoryError as error:
                if not self._make_room():
                    self._halve(error)
            # Not before: while the error is handled, its frames hold what was allocated.
            empty_cache()
        return results

    def _halve(self, error: Exception) -> None:
        if self.size == 1:
            raise GenerationError(self._too_large) from error
        self.size //= 2
