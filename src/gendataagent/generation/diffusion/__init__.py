"""Image-to-image generation with any latent diffusion pipeline of diffusers.

Importing this package loads no torch: `DiffusionFactory` imports the generator when it is called.
"""

from gendataagent.generation.diffusion.factory import DiffusionFactory
from gendataagent.generation.diffusion.spec import DiffusionSpec

__all__ = ["DiffusionFactory", "DiffusionSpec"]
