"""Captions by any image-to-text model of transformers."""

from gendataagent.backends.captioning.captioner import ImageToTextCaptioner
from gendataagent.backends.captioning.cleaning import clean_caption

__all__ = ["ImageToTextCaptioner", "clean_caption"]
