"""What the stages of a round cost: wall-clock seconds and peak memory, by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gendataagent.core.memory import PeakMemory
from gendataagent.core.progress import Stopwatch


class StageCosts:
    """Adds up seconds and keeps the peak of memory by stage.

    Args:
        device: torch device, as text; its memory is what counts.

    Attributes:
        device: as given.
        peak_memory_mib: stage -> most memory in use while it ran; see `memory.PeakMemory`.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._watch = Stopwatch()
        self.peak_memory_mib: dict[str, float] = {}

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> wall-clock seconds."""
        return self._watch.seconds

    @contextlib.contextmanager
    def measure(self, name: str, *, clock: bool = True) -> Iterator[None]:
        """Count what the block costs towards stage `name`, also when it ends in an error.

        Args:
            clock: False where the stage's seconds are counted elsewhere.
        """
        peak = PeakMemory(self.device)
        try:
            with peak, self._watch.measure(name) if clock else contextlib.nullcontext():
                yield
        finally:
            self.peak_memory_mib[name] = round(
                max(self.peak_memory_mib.get(name, 0.0), peak.mib), 1
            )
