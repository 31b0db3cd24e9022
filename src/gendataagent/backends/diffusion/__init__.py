"""Image-to-image with any pipeline of diffusers, and its adaptation by LoRA."""

from gendataagent.backends.diffusion.factory import DiffusionFactory
from gendataagent.backends.diffusion.generator import DiffusionGenerator

__all__ = ["DiffusionFactory", "DiffusionGenerator"]
