"""Check every file of a run folder against the hashes that were recorded when it was written.

Reads only. Works on finished and unfinished runs, on their baseline and adaptation, and on the
folder of an adaptation alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gendataagent.agent.by_hand.in_effect import current_decisions
from gendataagent.config.paths import settings_hash
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core.checkpoints import checkpoint_damage, list_checkpoints
from gendataagent.core.errors import ConfigError, RunFolderError
from gendataagent.core.inside import refuse_ways_out
from gendataagent.core.journal import parse_checked, place_of, read_journal
from gendataagent.core.progress import Progress, SilentProgress
from gendataagent.core.records import image_file_name
from gendataagent.core.run_folder import DONE, RunFolder
from gendataagent.core.seals import CHANGED, Damage, Seals, damages, read_mark
from gendataagent.core.text import counted
from gendataagent.generation.adaptation.result import RECORD_FILE
from gendataagent.runs.splits import read_splits

# of an unfinished round, each line with a checksum of itself
_JOURNALS = ("rewrites.jsonl", "rendered.jsonl", "probes.jsonl", "feedback_probes.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One part of a run folder, checked.

    Args:
        part: what was checked ("round 3").
        files: how many files were compared with their hashes.
        damaged: files that are missing or have changed.
        note: one sentence, where there is more to say.
    """

    part: str
    files: int
    damaged: tuple[Damage, ...] = ()
    note: str = ""

    @property
    def whole(self) -> bool:
        """Whether no file is damaged."""
        return not self.damaged


def verify(
    path: str | Path, *, images: bool = False, data: str | None = None,
    progress: Progress | None = None,
) -> list[Verified]:  # fmt: skip
    """Return every part of a run or adaptation, checked against its recorded hashes.

    Args:
        images: read the real images too, and compare them with those the run was started with.
        data: where they are, if not where the run read them.

    Raises:
        RunFolderError: `path` is neither a run folder nor the folder of an adaptation, or a link in
            it leads out of it.
        DataError: the real images cannot be read.
    """
    refuse_ways_out(path)
    folder, progress = RunFolder(Path(path)), progress or SilentProgress()
    if (folder.path / RECORD_FILE).is_file():
        return list(_adaptation(folder.path))
    RunFolder.open(path)
    found = list(_run(folder, progress, ""))
    if images:
        found.append(_images(folder, data, progress))
    return found


def _run(folder: RunFolder, progress: Progress, prefix: str) -> Iterator[Verified]:
    with progress.stage(f"{prefix}verify", None, "parts") as stage:
        for part in (_settings, _start, _rounds, _by_hand, _snapshots, _checkpoints, _end):
            for found in part(folder):
                stage.advance()
                yield Verified(
                    part=f"{prefix}{found.part}",
                    files=found.files,
                    damaged=found.damaged,
                    note=found.note,
                )
    if folder.adaptation.is_dir():
        yield from _adaptation(folder.adaptation)
    if folder.baseline.is_dir():
        yield from _run(RunFolder(folder.baseline), progress, "baseline: ")


def _settings(folder: RunFolder) -> Iterator[Verified]:
    """Compare the settings with the hash in the manifest."""
    damaged: list[Damage] = []
    try:
        config = read_run_config(folder)
        if folder.manifest_file.exists():
            then = folder.read_manifest().config_hash
            damaged += [Damage(folder.config_file, CHANGED)] * (then != settings_hash(config))
    except ConfigError as error:
        damaged = [Damage(folder.config_file, f"cannot be used: {error}")]
    except RunFolderError:
        return  # the manifest is reported with the other files of the start
    yield Verified(part="settings", files=1, damaged=tuple(damaged))


def _start(folder: RunFolder) -> Iterator[Verified]:
    own = (folder.manifest_file, folder.splits_file, folder.quarantine_file)
    paths = [*own, folder.near_duplicates_file]
    if not folder.manifest_file.exists() and not folder.sealed_files():
        yield Verified(part="start", files=0, note="the run was stopped before it began")
        return
    yield _sealed("start", folder, paths)
    if not folder.is_done and folder.metrics_file in folder.sealed_files():
        yield _sealed("training", folder, [folder.metrics_file])


def _rounds(folder: RunFolder) -> Iterator[Verified]:
    """Check finished rounds by their marks, and what is on disk of an unfinished one."""
    for path in sorted((folder.path / "rounds").glob("[0-9]*")):
        if not path.name.isdecimal():
            continue
        if (path / DONE).exists():
            yield _marked(f"round {int(path.name)}", folder.path, path / DONE)
        else:
            paths = [file for file in folder.sealed_files() if file.parent == path]
            found = _sealed(f"round {int(path.name)}", folder, paths)
            journals = [path / name for name in _JOURNALS if (path / name).is_file()]
            images = _images_so_far(folder, path)
            damaged = (*found.damaged, *filter(None, map(_journal_damage, journals)))
            yield Verified(
                part=found.part,
                files=found.files + len(journals) + len(images),
                damaged=(*damaged, *(damage for damage in images.values() if damage)),
                note="unfinished; what is damaged is made again",
            )


def _by_hand(folder: RunFolder) -> Iterator[Verified]:
    """Check the decisions by hand, and which of them epochs were trained under."""
    own = (folder.decisions_file, folder.decisions_in_effect_file)
    sealed = folder.sealed_files()
    paths = [path for path in own if path.exists() or path in sealed]
    if not paths:
        return
    damaged = [damage for path in paths if path in sealed and (damage := folder.damage(path))]
    if not damaged:
        try:
            current_decisions(folder)
        except (ConfigError, RunFolderError) as error:
            damaged.append(Damage(folder.decisions_file, f"cannot be used: {error}"))
    yield Verified(part="decisions by hand", files=len(paths), damaged=tuple(damaged))


def _journal_damage(path: Path) -> Damage | None:
    """Return the damage of a file that grows by lines; a torn last line is none."""
    *lines, _ = path.read_bytes().split(b"\n")
    place = place_of(path)
    changed = sum(parse_checked(line, place) is None for line in lines if line)
    return Damage(path, f"has changed in {counted(changed, 'line', 'lines')}") if changed else None


def _images_so_far(folder: RunFolder, path: Path) -> dict[Path, Damage | None]:
    """Return the damage of each image that an unfinished round has listed, None where whole."""
    found: dict[Path, Damage | None] = {}
    for row in read_journal(path / "rendered.jsonl"):
        sums = row.get("sha256")
        for id_, digest in sums.items() if isinstance(sums, dict) else ():
            name = f"pool/{path.name}/{image_file_name(id_)}"
            found[folder.path / name] = next(damages(folder.path, {name: digest}), None)
    return found


def _snapshots(folder: RunFolder) -> Iterator[Verified]:
    paths = [path for path in folder.sealed_files() if path.parent == folder.snapshots]
    if paths:
        yield _sealed("snapshots", folder, paths)


def _checkpoints(folder: RunFolder) -> Iterator[Verified]:
    found = list_checkpoints(folder.checkpoints)
    if found:
        damaged = tuple(
            Damage(path, reason) for epoch, path in found
            if (reason := checkpoint_damage(path, epoch))
        )  # fmt: skip
        yield Verified(part="checkpoints", files=len(found), damaged=damaged)


def _end(folder: RunFolder) -> Iterator[Verified]:
    if folder.is_done:
        yield _marked("end", folder.path, folder.path / DONE)
    else:
        yield Verified(part="end", files=0, note="the run is not finished")


def _adaptation(path: Path) -> Iterator[Verified]:
    if (path / DONE).exists():
        yield _marked("adaptation", path, path / DONE)
        return
    seals = Seals(path)
    paths = [path / name for name in seals.recorded()]
    damaged = tuple(filter(None, map(seals.damage, paths)))
    note = "unfinished; what is damaged is made again"
    yield Verified(part="adaptation", files=len(paths), damaged=damaged, note=note)


def _images(folder: RunFolder, data: str | None, progress: Progress) -> Verified:
    try:
        splits = read_splits(folder.path, data=data, progress=progress)
    except RunFolderError as error:
        place = Path(data or read_run_config(folder).data.path)
        return Verified(part="real images", files=0, damaged=(Damage(place, f": {error}"),))
    return Verified(part="real images", files=sum(map(len, splits.by_name().values())))


def _sealed(part: str, folder: RunFolder, paths: Sequence[Path]) -> Verified:
    damaged = tuple(filter(None, map(folder.damage, paths)))
    return Verified(part=part, files=len(paths), damaged=damaged)


def _marked(part: str, folder: Path, mark: Path) -> Verified:
    try:
        sums = read_mark(mark)
    except RunFolderError:
        return Verified(part=part, files=1, damaged=(Damage(mark, CHANGED),))
    return Verified(part=part, files=len(sums), damaged=tuple(damages(folder, sums)))
