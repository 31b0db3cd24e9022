"""A leakage audit as a file: a page with the pairs of images, or JSON lines."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gendataagent.core import files
from gendataagent.core.errors import ConfigError
from gendataagent.core.records import HELD_OUT
from gendataagent.data.duplicates.near_duplicates import DUPLICATE_CORRELATION
from gendataagent.report.html_document import document
from gendataagent.report.markup import count, esc, name, section, table
from gendataagent.report.thumbnails import Thumbnails

if TYPE_CHECKING:
    from gendataagent.data.duplicates.leakage import DuplicatePair
    from gendataagent.runs.audit import Audit, AuditedSet

PAIRS_SHOWN = 120
SUFFIXES = (".html", ".jsonl")


def check_out(path: Path) -> None:
    """Raise `ConfigError` if the suffix is not supported."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--out must end in {' or '.join(SUFFIXES)}; got {path.name}")


def write_audit(audit: Audit, path: Path) -> None:
    """Write every pair as JSON lines, or the closest ones as a page with images, by the suffix.

    Raises:
        ConfigError: another suffix.
        StorageError: the file cannot be written.
    """
    check_out(path)
    if path.suffix == ".jsonl":
        files.write_jsonl(path, audit.to_rows())
    else:
        files.write_bytes(path, _page(audit).encode())


def _page(audit: Audit) -> str:
    pairs = audit.pairs()
    rows = [
        [
            esc(one.title),
            count(len(one.images)),
            *(
                count(len(one.reports[split].ids)) if split in one.reports else ""
                for split in HELD_OUT
            ),
            count(len(one.removed)) if one.title in ("train", "validation") else "",
        ]
        for one in audit.sets
    ]
    head = ["set", "images", *(f"of {split}" for split in HELD_OUT), "removed by a run"]
    counts = section(
        "sets", "Sets", table(head, rows, caption="Near-duplicates of test and validation images")
    )
    shown = pairs[:PAIRS_SHOWN]
    more = f"The closest {len(shown)} of {len(pairs)}; --out FILE.jsonl lists all." if shown else ""
    sheet = section("pairs", "Pairs", _sheet(audit, shown), lead=more)
    header = (
        '<p class="eyebrow">GenDataAgent</p><h1>Leakage audit</h1>'
        '<p class="lead">Near-duplicates of test and validation images: copies of one photograph, '
        "also turned, mirrored, cropped or recompressed. Laid over each other, the two correlate "
        f"more than {DUPLICATE_CORRELATION:g} without what all images of the set share.</p>"
        + "".join(f"<p>{esc(note)}</p>" for note in audit.notes)
    )
    return document(
        title="Leakage audit",
        header=header,
        body=counts + sheet,
        navigation=(("sets", "Sets"), ("pairs", "Pairs")),
        footer="The audit changed nothing.",
    )


def _sheet(audit: Audit, pairs: Sequence[tuple[AuditedSet, str, DuplicatePair]]) -> str:
    """Return a table of the pairs with both images, embedded."""
    thumbnails = Thumbnails()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for one, split, pair in pairs:
            cells = []
            for images, id_ in ((one.images, pair.id), (audit.held_out[split], pair.reference_id)):
                path = Path(folder) / "image.png"
                images.image(images.ids.index(id_)).save(path)
                cells.append(f"{thumbnails.image(path, id_)}<br>{name(id_)}")
            mirrored = ", mirrored" if pair.mirrored else ""
            outcome = "removed by a run" if pair.id in one.removed else "kept"
            if one.title not in ("train", "validation"):
                outcome = ""
            rows.append(
                [f"{pair.correlation:.3f}{mirrored}", f"{esc(one.title)}<br>{cells[0]}",
                 f"{esc(split)}<br>{cells[1]}", outcome]
            )  # fmt: skip
    head = ["correlation", "image", "near-duplicate of", "outcome"]
    return table(head, rows, caption="Pairs", numeric=False) if rows else ""
