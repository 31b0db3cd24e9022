"""Devices, dtypes and precisions by name, and what each makes of a memory that runs out."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
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

CPU_FILE = Path("/proc/cpuinfo")
CUBLAS_WORKSPACE = ":4096:8"  # with another one, equal products may differ in their last bits
AUTO = "auto"  # a setting that is decided when the run is made

# Values of ONEDNN_MAX_CPU_ISA, as oneDNN documents them, that leave bfloat16 its units.
_ISA_WITH_BFLOAT16 = frozenset(
    {"ALL", "DEFAULT", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX",
     "AVX512_CORE_AMX_FP16", "AVX10_1_512", "AVX10_1_512_AMX", "AVX10_1_512_AMX_FP16"}
)  # fmt: skip

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

    if name == AUTO and torch.cuda.is_available():
        name = "cuda"
    elif name == AUTO:
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if _kind(name) == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}; try auto") from error
    return name


def gpus_of(device: str) -> tuple[str, ...]:
    """Return the GPUs that "cuda" can mean, as CUDA_VISIBLE_DEVICES names them.

    Empty for a device that names one GPU, and for others.
    """
    if device != "cuda":
        return ()
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    number = torch.cuda.device_count()
    if visible is None:
        return tuple(str(index) for index in range(number))
    return tuple(name.strip() for name in visible.split(","))[:number]


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


@contextlib.contextmanager
def repeatable_kernels(gradients_on: torch.device | str = "cpu") -> Iterator[None]:
    """Let a GPU compute the same bits each time in the block, and float32 as float32.

    cuDNN stays in use, but measures no kernels and takes no random ones; TF32 is off. The
    workspace of cuBLAS is set by `resolve_device`, since it is read when CUDA starts.

    Args:
        gradients_on: device that computes gradients in the block; those of attention have kernels
            of their own for this on a CUDA GPU.
    """
    import torch

    precision, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    torch.set_float32_matmul_precision("highest")
    needs_algorithms = _kind(gradients_on) == "cuda"
    try:
        # Without `enabled` these flags would switch cuDNN off.
        with (
            cudnn.flags(
                enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
            ),
            _deterministic_algorithms() if needs_algorithms else contextlib.nullcontext(),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


@contextlib.contextmanager
def _deterministic_algorithms() -> Iterator[None]:
    import torch

    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deterministic.*")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def default_threads(workers: int) -> int:
    """Return torch's number of threads divided by worker processes, at least 1."""
    import torch

    return max(1, torch.get_num_threads() // max(1, workers))


def has_bfloat16_units() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware: AMX or AVX512-BF16.

    Elsewhere bfloat16 is emulated, which is slower than float32. A limit in ONEDNN_MAX_CPU_ISA
    counts. The answer depends on the kind of CPU alone, never on a measurement, and on Linux needs
    no torch.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL"
    if limit.upper() not in _ISA_WITH_BFLOAT16:
        return False
    if flags := _cpu_flags():
        return bool({"amx_bf16", "avx512_bf16"} & flags)
    import torch

    # Public only from torch 2.9 on, as torch.cpu.get_capabilities.
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def _cpu_flags() -> set[str]:
    """Return the instruction sets that Linux names for its first CPU; elsewhere nothing."""
    try:
        for line in CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("flags"):
                return set(line.partition(":")[2].split())
    except OSError:
        pass
    return set()


def dtype_name(name: str, device: torch.device | str) -> str:
    """Return the torch dtype of a setting; auto = float16 on a GPU, float32 on a CPU."""
    if name != AUTO:
        return name
    return "float32" if _kind(device) == "cpu" else "float16"


def image_dtype_name(name: str, device: torch.device | str) -> str:
    """Return the dtype to generate images in; auto = as `dtype_name`, or bfloat16 on a CPU.

    The latter where the CPU has units for it (`has_bfloat16_units`).
    """
    if name == AUTO and _kind(device) == "cpu" and has_bfloat16_units():
        return "bfloat16"
    return dtype_name(name, device)


def resolve_dtype(name: str, device: torch.device | str) -> torch.dtype:
    """Return `dtype_name` as torch's own type."""
    return torch_dtype(dtype_name(name, device))


def torch_dtype(name: str) -> torch.dtype:
    """Return a dtype of torch by its name."""
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype


def training_precision(name: str, device: torch.device | str) -> str:
    """Return no, fp16 or bf16 for training a classifier.

    auto = bf16 where GPU or CPU has units for it, else fp16 on a CUDA GPU, else no.
    """
    if name != AUTO:
        return name
    if _kind(device) == "cpu":
        return "bf16" if has_bfloat16_units() else "no"
    if _kind(device) != "cuda":
        return "no"
    import torch

    # Without a GPU the question is what a run on one would do.
    is_there = torch.cuda.is_available()
    return "bf16" if not is_there or torch.cuda.is_bf16_supported(False) else "fp16"


def adaptation_precision(name: str, device: torch.device | str) -> str:
    """Return no, fp16 or bf16 for training a LoRA.

    auto = fp16 on a CUDA GPU, as the recipe; bf16 on a CPU with units for it; else no.
    """
    if name == AUTO and _kind(device) == "cuda":
        return "fp16"
    return training_precision(name, device)


def _kind(device: torch.device | str) -> str:
    return str(device).partition(":")[0]


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


def _nothing_to_free() -> bool:
    return False


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
        self._make_room = make_room or _nothing_to_free

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
