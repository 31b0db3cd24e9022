"""Image-to-image with any pipeline of diffusers, and its adaptation by LoRA."""

from gendataagent.backends.diffusion.factory import DiffusionFactory
from gendataagent.backends.diffusion.generator import DRAWN_TOGETHER, DiffusionGenerator

__all__ = ["DRAWN_TOGETHER", "DiffusionFactory", "DiffusionGenerator"]
