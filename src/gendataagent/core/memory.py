"""Memory and disk: the peak of a stage, what is free, and how many images are scored at once."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

MIB = 1 << 20
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
SAMPLE_EVERY_S = 0.05
SCORING_BATCH = 256
SCORING_BATCH_PX = 112  # up to this side; of larger images fewer are scored at once


class PeakMemory:
    """Measures the most memory in use while a `with` block runs, in MiB.

    On a CUDA device this is torch's own peak of allocated memory. Elsewhere the resident memory of
    this process is sampled twenty times a second, since the system only knows the peak since the
    process began. Other processes, such as generation workers, are not counted.

    Attributes:
        mib: the peak, after the block.
    """

    def __init__(self, device: str) -> None:
        self.mib = 0.0
        self._cuda = device if device.startswith("cuda") else None
        self._over = threading.Event()
        self._sampler: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            sys.modules["torch"].cuda.reset_peak_memory_stats(self._cuda)
        else:
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            self.mib = sys.modules["torch"].cuda.max_memory_allocated(self._cuda) / MIB
        if self._sampler is not None:
            self._over.set()
            self._sampler.join()
            self.mib = max(self.mib, resident_mib())

    def _sample(self) -> None:
        while True:
            self.mib = max(self.mib, resident_mib())
            if self._over.wait(SAMPLE_EVERY_S):
                return


def total_bytes(device: str) -> int | None:
    """Return the memory of a CUDA device, or of this machine as far as its container may use it.

    None for a GPU that is not here.
    """
    if device.startswith("cuda"):
        torch = sys.modules.get("torch")  # not imported: no device was looked for
        if torch is None or not torch.cuda.is_available():
            return None
        return int(torch.cuda.get_device_properties(device).total_memory)
    return min([int(psutil.virtual_memory().total), *_container_limits()])


def _container_limits() -> Iterator[int]:
    """Yield the limit of the control group, of version 2 or 1, if there is one."""
    for file in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" = none
            yield int(file.read_text(encoding="utf-8"))


def resident_mib() -> float:
    """Return the physical memory that this process uses now, in MiB."""
    return float(psutil.Process().memory_info().rss / MIB)


def is_short(device: str) -> bool:
    """Return whether less than half of a device's memory is available.

    Decides when models are released, never what a run computes.
    """
    if device.startswith("cuda"):
        torch = sys.modules["torch"]
        torch.cuda.empty_cache()  # memory that torch caches is not in use
        free, total = torch.cuda.mem_get_info(device)
        return bool(free < total / 2)
    memory = psutil.virtual_memory()
    return bool(memory.available < memory.total / 2)


def scoring_batch(size_px: int) -> int:
    """Return how many images are scored at once: about the same memory at every image size.

    A function of the size alone: results depend on the batch in the last bits, so they must not
    depend on the memory that happens to be free.
    """
    return max(8, min(SCORING_BATCH, SCORING_BATCH * SCORING_BATCH_PX**2 // size_px**2))


def free_disk(folder: Path) -> tuple[Path, int]:
    """Return the nearest folder that exists, at or above `folder`, and the bytes free there."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    return place, shutil.disk_usage(place).free
