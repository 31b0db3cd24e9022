"""Labelled images with stable ids, from folders, parquet and Hugging Face data sets on disk."""

from gendataagent.data.decoding.images import open_image, to_rgb
from gendataagent.data.duplicates.deduplication import NearDuplicate
from gendataagent.data.index import Quarantined
from gendataagent.data.indexing import check_path
from gendataagent.data.loading import load_data
from gendataagent.data.sets import ImageStore, LabelledImages, MemoryStore, median_side_px
from gendataagent.data.splits import ImageSplits

__all__ = [
    "ImageSplits",
    "ImageStore",
    "LabelledImages",
    "MemoryStore",
    "NearDuplicate",
    "Quarantined",
    "check_path",
    "load_data",
    "median_side_px",
    "open_image",
    "to_rgb",
]
