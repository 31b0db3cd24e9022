"""From the name in the settings to a classifier: transformers, timm, or the small ResNet.

Each library is imported in its own file, when one of its models is asked for.
"""

from gendataagent.config.training import TIMM_PREFIX
from gendataagent.training.backbones.building import build_classifier, check_model, choose_model
from gendataagent.training.backbones.tiny_resnet import TINY_RESNET, TINY_RESNET_PX

__all__ = [
    "TIMM_PREFIX",
    "TINY_RESNET",
    "TINY_RESNET_PX",
    "build_classifier",
    "check_model",
    "choose_model",
]
