"""The columns in which candidates are stored and exported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa

COLUMN_TYPES: Mapping[str, str] = {
    "id": "string",
    "round": "int32",
    "source_id": "string",
    "label": "int64",
    "class_name": "string",
    "variant": "int32",
    "seed": "int64",
    "strength": "float64",
    "guidance_scale": "float64",
    "num_inference_steps": "int32",
    "negative_prompt": "string",
    "source_class": "string",
    "label_share": "float64",
    "start": "string",
    "marginal_score": "float64",
    "source_caption": "string",
    "caption": "string",
    "prompt": "string",
    "rewritten_by": "string",
    "generator": "string",
    "generator_revision": "string",
    "feedback": "string",
    "feedback_scale": "float64",
    "guide": "string",
    "vog": "float64",
    "rejected_by": "string",
}
"""Field of `Candidate` -> Arrow type."""

HISTORY_TYPES: Mapping[str, str] = {k: v for k, v in COLUMN_TYPES.items() if k != "label"}


def pool_schema(class_names: Sequence[str]) -> pa.Schema:
    """Return the schema of a round's `metadata.parquet`.

    Its metadata holds the types as Hugging Face datasets writes them, so that "imagefolder" reads
    the label as a ClassLabel of `class_names`.
    """
    types = {"file_name": "string", **COLUMN_TYPES, "kept": "bool"}
    features = {name: {"dtype": kind, "_type": "Value"} for name, kind in types.items()}
    label = {"names": list(class_names), "_type": "ClassLabel"}
    info = {"info": {"features": {**features, "label": label}}}
    return pa.schema(
        [(name, pa.type_for_alias(kind)) for name, kind in types.items()],
        metadata={"huggingface": json.dumps(info)},
    )
