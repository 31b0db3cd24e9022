"""What a synthetic image says of itself: text chunks inside its PNG, for whoever meets it alone.

    synthetic   "true"; "false" for a real image that was found in a folder
    generator   name and revision of the model that made it
    prompt      what the model was asked for
    original    the file in that folder
    run         hash of the run's settings, as `config_hash` in its manifest.json

The bytes of an image are part of a run's outcome. So the chunks hold nothing that differs between
two runs of the same settings: no path, date, machine or version.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gendataagent.core.records import RETRIEVAL, Candidate

SYNTHETIC, GENERATOR, PROMPT, RUN = "synthetic", "generator", "prompt", "run"
ORIGINAL = "original"  # written by the generator that found it
_KEYS = (SYNTHETIC, GENERATOR, PROMPT, RUN, ORIGINAL)


_HEADER_BYTES = 8 + 25  # signature and IHDR, which is the first chunk of every PNG


def with_provenance(png: bytes, candidate: Candidate, run: str) -> bytes:
    """Return a PNG file with its provenance inside; the pixels are not encoded again.

    Args:
        png: without provenance.
        run: hash of the run's settings; "" is left out, as is every fact that is not known.
    """
    revision = f"@{candidate.generator_revision}" if candidate.generator_revision else ""
    facts = {
        SYNTHETIC: "false" if candidate.generator == RETRIEVAL else "true",
        GENERATOR: f"{candidate.generator}{revision}" if candidate.generator else "",
        PROMPT: candidate.prompt or "",
        RUN: run,
    }
    chunks = PngInfo()
    for key, value in facts.items():
        if value:
            chunks.add_text(key, value.replace("\0", ""))  # NUL ends a text in PNG
    inside = b"".join(_chunk(kind, content) for kind, content, *_ in chunks.chunks)
    return png[:_HEADER_BYTES] + inside + png[_HEADER_BYTES:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG: length, kind, content, checksum."""
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def read_provenance(image: Image.Image) -> Mapping[str, str]:
    """Return the provenance inside an opened PNG by key; {} if it has none."""
    image.load()  # text may stand behind the pixels
    text = getattr(image, "text", {})
    return {key: str(text[key]) for key in _KEYS if key in text}
