"""Every candidate ever made, with its image and its whole story, kept or not.

A round's folder holds one PNG a candidate and `metadata.parquet`, written when the verdicts are in.
That is Hugging Face's image-folder layout, so the kept set loads in one line:

    load_dataset("imagefolder", data_dir="RUN/pool", split="train").filter(lambda row: row["kept"])
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.records import Candidate, RenderedCandidate
from gendataagent.core.run_folder import RunFolder

_TYPES = {
    "id": pa.string(),
    "round": pa.int32(),
    "source_id": pa.string(),
    "label": pa.int32(),
    "class_name": pa.string(),
    "variant": pa.int32(),
    "seed": pa.int64(),
    "strength": pa.float64(),
    "guidance_scale": pa.float64(),
    "num_inference_steps": pa.int32(),
    "negative_prompt": pa.string(),
    "marginal_score": pa.float64(),
    "source_caption": pa.string(),
    "caption": pa.string(),
    "prompt": pa.string(),
    "rewritten_by": pa.string(),
    "generator": pa.string(),
    "generator_revision": pa.string(),
    "vog": pa.float64(),
    "rejected_by": pa.string(),
}
SCHEMA = pa.schema([("file_name", pa.string()), *_TYPES.items(), ("kept", pa.bool_())])


class SyntheticImages:
    """Kept synthetic images of one or more rounds, read from disk when asked for.

    Has the shape of `data.LabelledImages`, so whatever takes real images takes these.
    """

    def __init__(self, class_names: Sequence[str], items: Sequence[tuple[Candidate, Path]]) -> None:
        self.class_names = tuple(class_names)
        self.candidates = tuple(candidate for candidate, _ in items)
        self.paths = tuple(path for _, path in items)
        self.ids = tuple(candidate.id for candidate in self.candidates)
        self.labels = tuple(candidate.label for candidate in self.candidates)

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, index: int) -> Image.Image:
        """Return image `index`, RGB, at the size it was made."""
        return _read_png(self.paths[index])


class Pool:
    """The synthetic images of a run, by round."""

    def __init__(self, folder: RunFolder, class_names: Sequence[str]) -> None:
        self._folder = folder
        self._class_names = tuple(class_names)

    def rendered(self, number: int) -> tuple[dict[str, Candidate], float]:
        """Return what an unfinished round has rendered so far, by id, and the seconds it took.

        Each line of `rendered.jsonl` is one batch whose images are all on disk; a last line torn by
        a crash is not counted, its batch is made again.
        """
        path = self._folder.round(number) / "rendered.jsonl"
        done: dict[str, Candidate] = {}
        seconds = 0.0
        for batch in files.read_journal(path):
            seconds += batch["seconds"]
            for row in batch["candidates"]:
                candidate = Candidate.from_json(row)
                done[candidate.id] = candidate
        return done, seconds

    def add_batch(self, number: int, batch: Sequence[RenderedCandidate], seconds: float) -> None:
        """Put the images of a rendered batch on disk, then note that they are there."""
        for item in batch:
            if item.image is not None:
                buffer = io.BytesIO()
                item.image.save(buffer, "PNG")
                files.write_bytes(self.image_path(item.candidate), buffer.getvalue())
        line = {"seconds": seconds, "candidates": [item.candidate.to_json() for item in batch]}
        files.append_line(self._folder.round(number) / "rendered.jsonl", json.dumps(line))

    def image_path(self, candidate: Candidate) -> Path:
        """Return where the image of a candidate lies (or would lie)."""
        return self._folder.pool(candidate.round) / candidate.file_name

    def image(self, candidate: Candidate) -> Image.Image:
        """Return the image of a candidate, RGB; raise `RunFolderError` naming a lost file."""
        return _read_png(self.image_path(candidate))

    def close_round(self, number: int, candidates: Sequence[Candidate]) -> None:
        """Write the story of every candidate of a round, kept or not.

        `judged.jsonl` holds all of them, `metadata.parquet` those with an image (the image-folder
        format has no rows without one).
        """
        rows = [
            {**candidate.to_json(), "file_name": candidate.file_name, "kept": candidate.kept}
            for candidate in candidates
            if self.image_path(candidate).exists()
        ]
        if rows:  # a table without rows would keep Hugging Face datasets from reading any round
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            with files.atomic_writer(self._folder.pool(number) / "metadata.parquet") as stream:
                pq.write_table(table, stream)
        files.write_jsonl(self._judged(number), [c.to_json() for c in candidates])

    def candidates(self, number: int) -> list[Candidate]:
        """Return all candidates of a closed round."""
        return [Candidate.from_json(row) for row in files.read_jsonl(self._judged(number))]

    def _judged(self, number: int) -> Path:
        return self._folder.round(number) / "judged.jsonl"

    def kept(self, rounds: Iterable[int]) -> SyntheticImages:
        """Return the kept images of the given closed rounds, in order."""
        return self.images_of([c for number in rounds for c in self.candidates(number) if c.kept])

    def images_of(self, candidates: Sequence[Candidate]) -> SyntheticImages:
        """Return the images of candidates that were rendered, in order."""
        return SyntheticImages(self._class_names, [(c, self.image_path(c)) for c in candidates])


def _read_png(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for a broken PNG
        raise RunFolderError(
            f"the synthetic image {path} cannot be read ({error}). Put it back from a copy, or "
            "start a new run with the same settings, which makes the same images"
        ) from error
