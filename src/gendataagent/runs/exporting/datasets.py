"""Export of a run's images: real and kept synthetic ones, or the kept ones alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from gendataagent.agent.by_hand.in_effect import current_decisions
from gendataagent.agent.by_hand.rules import HandCounts
from gendataagent.agent.class_record import ClassRecord
from gendataagent.agent.pool import Pool
from gendataagent.agent.synthetic import SyntheticImages
from gendataagent.core import files
from gendataagent.core.errors import ConfigError, DataError, RunFolderError
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.records import ModelDescription, RoundRecord
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.core.suggestions import did_you_mean
from gendataagent.data import ImageSplits
from gendataagent.data.synthetic_marks import SYNTHETIC
from gendataagent.runs.exporting.copies import copies
from gendataagent.runs.exporting.data_card import data_card
from gendataagent.runs.exporting.data_formats import DATA_FORMATS
from gendataagent.runs.exporting.model_card import CARD_FILE
from gendataagent.runs.exporting.place import check_place, export_folder
from gendataagent.runs.exporting.rows import REAL, real_rows, synthetic_rows
from gendataagent.runs.exporting.run_facts import RunFacts
from gendataagent.runs.splits import read_splits

KEPT = "kept"
_NO_FIGURES = "Leakage and memorisation were not measured: the real images were not at hand."


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedData:
    """Where images were exported to, how many, and what the user should know."""

    path: Path
    real: int
    synthetic: int
    notes: tuple[str, ...]


def export_data(
    run: str | Path,
    to: str,
    out: str | Path,
    *,
    only: str = "",
    data: str | None = None,
    progress: Progress | None = None,
) -> ExportedData:
    """Write the images of a run to the folder `out`, in a format that other software reads.

    Args:
        run: a run folder, finished or not, or the folder of an `Agent`.
        to: a key of `DATA_FORMATS`.
        only: "kept" leaves out the real images.
        data: where the run's images are, if not where the run read them.

    Raises:
        ConfigError: no such format, or another `only`.
        RunFolderError: files of the run are damaged, its images have changed, or `out` holds
            something else.
        DataError: the images cannot be read, or there are none to export.
    """
    if to not in DATA_FORMATS:
        raise ConfigError(f"--to {to}: {did_you_mean(to, DATA_FORMATS)}")
    if only not in ("", KEPT):
        raise ConfigError(f"--only {only}: the only choice is {KEPT}; leave it out for all images")
    folder = RunFolder.open(run)
    path = check_place(out, run)
    progress = progress or SilentProgress()
    rounds = _finished_rounds(folder)
    pool, by_hand = Pool(folder, _class_names(folder)), current_decisions(folder)
    kept = pool.kept([record.round for record in rounds], by_hand)
    splits, note = _real_images(folder, only, data, progress)
    notes = [note] if note else []
    if not folder.is_done and folder.manifest_file.exists():
        notes.append(f"The run is not finished; {len(rounds)} rounds of it are exported.")
    real = real_rows(splits) if splits is not None and only != KEPT else []
    rows = real + synthetic_rows(kept)
    if not rows:
        raise DataError(
            f"the run in {run} has kept no synthetic images, so there is nothing to export with "
            f"--only {KEPT}; leave it out to export the real images"
        )
    facts = _with_generator(RunFacts.of(folder), kept)
    figures: list[str] = []
    if len(kept):
        figures = [_NO_FIGURES] if splits is None else copies(folder, splits, kept, progress)
    form = DATA_FORMATS[to]
    record = {"what": "data", "format": to, "run": facts.run, "only": only}
    with (
        progress.stage(f"export to {to}", len(rows), "images") as stage,
        export_folder(path, record) as aside,
    ):
        form.write(aside, rows, kept.class_names, stage.advance)
        judged = (c for record in rounds for c in pool.candidates(record.round))
        counts = HandCounts.of(judged, by_hand.of_id)
        card = data_card(to, form, rows, kept.class_names, facts, rounds, counts, figures)
        files.write_bytes(aside / CARD_FILE, card.encode())
    if counts:
        notes.append(f"Decisions by hand: {counts.words}.")
    sources = Counter(row.values["source"] for row in rows)
    return ExportedData(
        path=path, real=sources[REAL], synthetic=sources[SYNTHETIC], notes=(*notes, *figures)
    )


def _finished_rounds(folder: RunFolder) -> list[RoundRecord]:
    numbers = sorted(
        int(path.name) for path in (folder.path / "rounds").glob("*") if path.name.isdecimal()
    )
    return [
        read_record(RoundRecord, folder.round(number) / "record.json")
        for number in numbers
        if folder.round_is_done(number)
    ]


def _class_names(folder: RunFolder) -> tuple[str, ...]:
    if folder.manifest_file.exists():
        return folder.read_manifest().class_names
    return read_record(ClassRecord, folder.classes_file).class_names


def _real_images(
    folder: RunFolder, only: str, data: str | None, progress: Progress
) -> tuple[ImageSplits | None, str]:
    """Return the real images, or None and why, where they are not needed and cannot be read."""
    if not folder.manifest_file.exists():
        if only == KEPT:
            return None, ""
        raise RunFolderError(
            f"{folder.path} is the folder of a training loop of your own, which does not record "
            f"the real images; export the synthetic ones with --only {KEPT}"
        )
    try:
        return read_splits(folder.path, data=data, progress=progress), ""
    except (DataError, RunFolderError) as error:
        if only != KEPT:
            raise
        return None, f"The real images cannot be read: {error}"


def _with_generator(facts: RunFacts, kept: SyntheticImages) -> RunFacts:
    """Return the facts with the generator that the images name, where the run does not."""
    if facts.generator is not None or not len(kept):
        return facts
    first = kept.candidates[0]
    if first.generator is None:
        return facts
    made_by = ModelDescription(name=first.generator, revision=first.generator_revision or "")
    return replace(facts, generator=made_by)
