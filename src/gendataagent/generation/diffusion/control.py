"""The ControlNet beside a pipeline: what it is and what it is shown, without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageFilter

from gendataagent.config import GenerationConfig
from gendataagent.core import hub
from gendataagent.core.hub import ModelSource
from gendataagent.core.records import WITH_EDGES
from gendataagent.generation.diffusion.edges import edges_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Names a ControlNet for edges and says how to use it; small and picklable.

    Args:
        name: folder or hub id.
        revision: on the hub; "" = the newest.
        scale: strength; 0 = none, 1 = as trained.
        thresholds: of the edges, see `edges.edges_of`.
        blur_px: deviation of the Gaussian blur before the edges are found; 0 = none.
    """

    name: str
    revision: str = ""
    scale: float = 0.75
    thresholds: tuple[float, float] = (120.0, 200.0)
    blur_px: float = 0.0

    @classmethod
    def from_config(cls, config: GenerationConfig) -> Self | None:
        """Return the ControlNet of the settings; None if they have none."""
        if config.condition != WITH_EDGES:
            return None
        low, high = config.edge_thresholds
        return cls(
            name=config.controlnet,
            revision=config.controlnet_revision,
            scale=config.controlnet_scale,
            thresholds=(low, high),
            blur_px=config.edge_blur_px,
        )

    @property
    def source(self) -> ModelSource:
        """The folder or hub repository of the ControlNet."""
        return ModelSource(
            setting="generation.controlnet",
            kind="a ControlNet of diffusers",
            name=self.name,
            revision=self.revision,
            instead="Name one for edges (Canny) of the same model as the generator.",
        )

    @property
    def revision_part(self) -> str:
        """What it adds to the revision of the generator: its hash or commit, and its use."""
        low, high = self.thresholds
        shown = f"{low:g}-{high:g}" + (f"-{self.blur_px:g}px" if self.blur_px else "")
        return f"+controlnet:{hub.revision_of(self.source)}@{self.scale:g}/{shown}"

    def image_of(self, square: Image.Image) -> Image.Image:
        """Return what the ControlNet is shown: the edges of an RGB image, white on black."""
        if self.blur_px:
            square = square.filter(ImageFilter.GaussianBlur(self.blur_px))
        edges_HW = edges_of(np.asarray(square.convert("RGB")), *self.thresholds)
        return Image.fromarray(edges_HW.astype(np.uint8) * 255).convert("RGB")
