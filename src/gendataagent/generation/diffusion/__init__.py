"""Image-to-image with any pipeline of diffusers, and its adaptation by LoRA."""

from gendataagent.generation.diffusion.factory import DiffusionFactory
from gendataagent.generation.diffusion.generator import DiffusionGenerator

__all__ = ["DiffusionFactory", "DiffusionGenerator"]
