"""Every candidate of a run with its image and its complete record, kept or rejected.

A round's folder holds one PNG per candidate and `metadata.parquet`, written once the round is
judged. That is Hugging Face's image-folder layout, so `datasets` loads it, the label as a
ClassLabel:

    made = load_dataset("imagefolder", data_dir="RUN/pool", split="train")
    kept = made.filter(bool, input_columns="kept")
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from gendataagent.agent.by_hand.decisions import (
    HandDecisions,
    read_decisions,
    refuse_unkeepable,
)
from gendataagent.agent.by_hand.in_effect import current_decisions
from gendataagent.agent.by_hand.rules import KEEP, decided
from gendataagent.agent.columns import pool_schema
from gendataagent.agent.provenance import with_provenance
from gendataagent.agent.synthetic import SyntheticImages, read_png
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.journal import append_rows, iterate_journal
from gendataagent.core.record_table import BATCH_ROWS, RecordTable
from gendataagent.core.records import Candidate, RenderedCandidate, image_file_name
from gendataagent.core.rows import RowError, fit
from gendataagent.core.run_folder import RunFolder
from gendataagent.data.items import Items


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """One line of `rendered.jsonl`.

    Args:
        seconds: that rendering took.
        made: candidate id -> why its image was rejected, None = it was not.
        sha256: candidate id -> SHA-256 of its image, where one was made.
    """

    seconds: float
    made: Mapping[str, str | None]
    sha256: Mapping[str, str]


class Pool:
    """The synthetic images of a run, by round.

    Args:
        form: of the items of `SyntheticImages`; None = `(PIL image, label)`.
        run: hash of the run's settings, for the provenance inside new images.
    """

    def __init__(
        self,
        folder: RunFolder,
        class_names: Sequence[str],
        form: Items | None = None,
        run: str = "",
    ) -> None:
        self._folder = folder
        self._class_names = tuple(class_names)
        self._form = form
        self._run = run

    def rendered(self, number: int) -> tuple[dict[str, str | None], float]:
        """Return what a round has rendered so far, and the seconds it took.

        The candidates by id, with the reason for which their image was rejected, None = it was not.
        Each line of `rendered.jsonl` is one batch, with the SHA-256 of each image. A batch whose
        line is torn or has changed, and an image that is lost or has changed, is rendered again.
        """
        path = self._folder.round(number) / "rendered.jsonl"
        done: dict[str, str | None] = {}
        seconds = 0.0
        for row in iterate_journal(path):
            try:
                batch = fit(_Batch, row)
            except RowError:  # damaged: its images are made again, the same ones
                continue
            seconds += batch.seconds
            for id_, rejected_by in batch.made.items():
                digest = batch.sha256.get(id_)
                if digest is None or _is_whole(self._image_file(number, id_), digest):
                    done[id_] = rejected_by
        return done, seconds

    def add_batch(self, number: int, batch: Sequence[RenderedCandidate], seconds: float) -> None:
        """Write the images of a rendered batch, then a line that lists them."""
        self.add_batches(number, [(batch, seconds)])

    def add_batches(
        self, number: int, batches: Sequence[tuple[Sequence[RenderedCandidate], float]]
    ) -> None:
        """Write the images of rendered batches, then a line for each that lists its images.

        Args:
            batches: each with the seconds that it took.
        """
        rows: list[dict[str, Any]] = []
        images: dict[Path, bytes] = {}
        for batch, seconds in batches:
            files_of = self._files_of(batch)
            images.update((self.image_path(candidate), png) for candidate, png in files_of)
            sums = {candidate.id: hashlib.sha256(png).hexdigest() for candidate, png in files_of}
            made = {item.candidate.id: item.candidate.rejected_by for item in batch}
            rows.append({"seconds": seconds, "made": made, "sha256": sums})
        files.write_many(images)
        append_rows(self._folder.round(number) / "rendered.jsonl", rows)

    def _files_of(self, batch: Sequence[RenderedCandidate]) -> list[tuple[Candidate, bytes]]:
        """Return the candidates that have an image, with the PNG file to write."""
        return [
            (item.candidate, with_provenance(png, item.candidate, self._run))
            for item in batch
            if (png := item.to_png()) is not None
        ]

    def image_path(self, candidate: Candidate) -> Path:
        """Return the image file of a candidate, whether it exists or not.

        Raises:
            RunFolderError: its id leads to another folder, in records that somebody has written.
        """
        return self._image_file(candidate.round, candidate.id)

    def _image_file(self, number: int, id_: str) -> Path:
        name = image_file_name(id_)
        if Path(name).name != name:
            raise RunFolderError(
                f"{self._folder.path} has a candidate whose id is not a name but a path: "
                f"{id_[:80]!r}; such a folder was not written by gendataagent"
            )
        return self._folder.pool(number) / name

    def image(self, candidate: Candidate) -> Image.Image:
        """Return the image of a candidate, RGB; raise `RunFolderError` naming a lost file."""
        return read_png(self.image_path(candidate))

    def close_round(self, number: int, candidates: Sequence[Candidate]) -> None:
        """Write the final record of every candidate of a round.

        `judged.parquet` holds all of them, `metadata.parquet` those with an image (the image-folder
        layout has no rows without one).
        """
        there = (c for c in candidates if self.image_path(c).exists())
        first = next(there, None)
        if first is not None:  # without rows it would keep datasets from reading any round
            with files.atomic_writer(self._folder.pool(number) / "metadata.parquet") as stream:
                self._write_metadata(stream, itertools.chain([first], there))
        with files.atomic_writer(self._judged(number)) as stream:
            RecordTable.of(Candidate, candidates).write(stream)

    def _write_metadata(self, stream: BinaryIO, candidates: Iterator[Candidate]) -> None:
        schema = pool_schema(self._class_names)
        with pq.ParquetWriter(stream, schema) as writer:
            while part := list(itertools.islice(candidates, BATCH_ROWS)):
                rows = [{**c.to_json(), "file_name": c.file_name, "kept": c.kept} for c in part]
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))

    def candidates(self, number: int) -> RecordTable[Candidate]:
        """Return all candidates of a closed round.

        Raises:
            RunFolderError: the round is finished, and a file of it is lost or has changed.
        """
        self._folder.check_round(number)
        return RecordTable.read(Candidate, self._judged(number))

    def _judged(self, number: int) -> Path:
        return self._folder.round(number) / "judged.parquet"

    def by_hand(self, size: int) -> HandDecisions:
        """Return an earlier version of the decisions by hand, see `HandDecisions`."""
        return read_decisions(self._folder, size)

    def decided(self, number: int, decisions: HandDecisions | None = None) -> Sequence[Candidate]:
        """Return all candidates of a closed round as they are after decisions by hand.

        Args:
            decisions: None = all that there are now.

        Raises:
            RunFolderError: as `candidates`; or the decisions are damaged, of another run, or keep
                an image that no one can keep by hand.
        """
        of_id = (decisions or current_decisions(self._folder)).of_id
        candidates = self.candidates(number)
        if not of_id:
            return candidates
        filter_name = read_run_config(self._folder).filter.by
        for candidate in candidates:
            if of_id.get(candidate.id) == KEEP:
                refuse_unkeepable(self._folder, candidate.id, candidate.rejected_by, filter_name)
        return [decided(candidate, of_id.get(candidate.id)) for candidate in candidates]

    def kept(
        self, rounds: Iterable[int], decisions: HandDecisions | None = None
    ) -> SyntheticImages:
        """Return the kept images of closed rounds, in the order of `rounds`.

        What is saved or uploaded of them is what is kept at that moment.

        Args:
            decisions: by hand; None = all that there are now. Raises as `decided`.
        """
        rounds = list(rounds)
        decisions = decisions or current_decisions(self._folder)
        found = [c for number in rounds for c in self.decided(number, decisions) if c.kept]
        now = functools.partial(
            _kept_now, self._folder.path, self._class_names, self._form, rounds, decisions.sha256
        )
        return self.images_of(found).exported_as(now)

    def images_of(self, candidates: Sequence[Candidate]) -> SyntheticImages:
        """Return the images of rendered candidates, in order."""
        items = [(candidate, self.image_path(candidate)) for candidate in candidates]
        return SyntheticImages(self._class_names, items, self._form)


def _kept_now(
    folder: Path, class_names: Sequence[str], form: Items | None, rounds: Sequence[int], under: str
) -> SyntheticImages | None:
    """Return the kept images of rounds; None if no decision was added to the version `under`."""
    now = current_decisions(RunFolder(folder))
    pool = Pool(RunFolder(folder), class_names, form)
    return pool.kept(rounds, now) if now.sha256 != under else None


def _is_whole(path: Path, digest: str) -> bool:
    return path.is_file() and files.file_sha256(path) == digest
