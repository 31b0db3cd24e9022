"""Captions by any image-to-text model of transformers."""

from gendataagent.generation.captioning.captioner import ImageToTextCaptioner
from gendataagent.generation.captioning.cleaning import clean_caption

__all__ = ["ImageToTextCaptioner", "clean_caption"]
