"""Image-to-image with any pipeline of diffusers, and its adaptation by LoRA."""

from gendataagent.generation.diffusion.generator import DiffusionGenerator
from gendataagent.generation.diffusion.spec import DiffusionFactory

__all__ = ["DiffusionFactory", "DiffusionGenerator"]
