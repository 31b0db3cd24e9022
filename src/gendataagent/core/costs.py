"""The cost of each stage of a round: wall-clock seconds and peak memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gendataagent.core.memory import PeakMemory
from gendataagent.core.progress import Stopwatch


class StageCosts:
    """Sums seconds and keeps the peak memory of each stage.

    Args:
        device: torch device, as text, whose memory is measured.

    Attributes:
        peak_memory_mib: stage -> peak memory while it ran; see `memory.PeakMemory`.
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
        """Add the cost of the block to stage `name`, also if it raises.

        Args:
            clock: False if the stage's seconds are counted elsewhere.
        """
        peak = PeakMemory(self.device)
        try:
            with peak, self._watch.measure(name) if clock else contextlib.nullcontext():
                yield
        finally:
            self.peak_memory_mib[name] = round(
                max(self.peak_memory_mib.get(name, 0.0), peak.mib), 1
            )
