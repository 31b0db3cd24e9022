"""Labelled pictures with stable ids, from folders, parquet and Hugging Face data sets on disk."""

from gendataagent.data.deduplication import NearDuplicate
from gendataagent.data.images import open_picture, to_rgb
from gendataagent.data.listing import Quarantined
from gendataagent.data.loading import check_path, load_data
from gendataagent.data.sets import LabelledImages, MemoryStore, PictureStore, median_side_px
from gendataagent.data.splits import ImageSplits

__all__ = [
    "ImageSplits",
    "LabelledImages",
    "MemoryStore",
    "NearDuplicate",
    "PictureStore",
    "Quarantined",
    "check_path",
    "load_data",
    "median_side_px",
    "open_picture",
    "to_rgb",
]
