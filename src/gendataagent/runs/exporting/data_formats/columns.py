"""Columns of tables, typed so that Hugging Face `datasets` reads image and label as such."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa

IMAGE, LABEL = "image", "label"
_IMAGE_TYPE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def schema(columns: Mapping[str, str], class_names: Sequence[str]) -> pa.Schema:
    """Return an Arrow schema with the types of `datasets` in its metadata.

    Args:
        columns: column -> Arrow type; the types of `image` and `label` are what they must be.
    """
    features: dict[str, object] = {
        name: {"dtype": kind, "_type": "Value"} for name, kind in columns.items()
    }
    fields = {name: pa.type_for_alias(kind) for name, kind in columns.items() if name != IMAGE}
    if IMAGE in columns:
        fields = {IMAGE: _IMAGE_TYPE, **fields}
        features[IMAGE] = {"_type": "Image"}
    features[LABEL] = {"names": list(class_names), "_type": "ClassLabel"}
    info = {"info": {"features": {name: features[name] for name in fields}}}
    return pa.schema(list(fields.items()), metadata={"huggingface": json.dumps(info)})
