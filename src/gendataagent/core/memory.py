"""How much memory a stage takes: of the GPU as torch counts it, else of this process."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

MIB = 1 << 20
SAMPLE_EVERY_S = 0.05
SCORING_BATCH = 256
SCORING_BATCH_PX = 112  # up to this side; of larger images fewer are scored at once


class PeakMemory:
    """Measures the most memory in use while a `with` block runs, in MiB.

    On a CUDA device it is torch's own peak of allocated memory. Elsewhere the resident memory of
    this process is looked at twenty times a second, since the system only knows the peak since the
    process began. Other processes, such as generation workers, are not counted.

    Attributes:
        mib: the peak, after the block; 0 where the system does not tell.
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


def resident_mib() -> float:
    """Return the memory this process holds now, in MiB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0.0
    import resource

    return pages * resource.getpagesize() / MIB


def is_short(device: str) -> bool:
    """Return whether less than half of a device's memory is left; False where nobody tells."""
    if device.startswith("cuda"):
        torch = sys.modules["torch"]
        torch.cuda.empty_cache()  # what torch holds back for itself is not in use
        free, total = torch.cuda.mem_get_info(device)
        return bool(free < total / 2)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return kib["MemAvailable"] < kib["MemTotal"] / 2
    except (OSError, ValueError, LookupError):  # not Linux
        return False


def scoring_batch(size_px: int) -> int:
    """Return how many images are scored at once: the same memory whatever their size."""
    return max(8, min(SCORING_BATCH, SCORING_BATCH * SCORING_BATCH_PX**2 // size_px**2))
