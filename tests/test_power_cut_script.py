"""What scripts/reliability/power_cut.py takes a disk to hold after a power cut."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripts.reliability.power_cut import KINDS, Disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="as the script")

ROOT = Path(__file__).resolve().parents[1]
WRITES = """
import os, sys
from pathlib import Path
from gendataagent.core.journal import append_row
from gendataagent.core import files
from scripts.reliability.power_cut import Recorder
work = Path(sys.argv[1])
Recorder(work / "out", work / "changes.jsonl", work / "contents").install()
out = work / "out"
files.make_folder(out)
files.write_bytes(out / "durable", b"old" * 100)
files.sync_folder(work)
append_row(out / "journal", {"row": 1})
files.write_bytes(out / "durable", b"new" * 200)
with open(out / "careless.tmp", "wb") as stream:
    stream.write(b"careless" * 100)
os.replace(out / "careless.tmp", out / "careless")
append_row(out / "journal", {"row": 2})
files.write_bytes(out / "a" / "b" / "nested", b"nested")
files.write_many({out / "many" / f"{n}": b"%d" % n for n in range(64)})  # in threads
with files.atomic_folder(out / "folder") as aside:
    (aside / "inside").write_bytes(b"inside" * 100)
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("power")
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(place)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return place


def states(work: Path, tmp_path: Path) -> list[tuple[int, str, Path]]:
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (work / "changes.jsonl").read_text().splitlines()
    ]
    found = []
    for at in range(1, len(rows) + 1):
        for kind in KINDS:
            place = tmp_path / f"{at}-{kind}"
            Disk(rows, at, work / "contents").write(place, kind, seed=at)
            found.append((at, kind, place))
    return found


def test_what_was_flushed_is_there_and_what_was_not_may_be_lost(work: Path, tmp_path: Path) -> None:
    durable, careless, folders, journals = set(), set(), set(), []
    for _, _, place in states(work, tmp_path):
        path = place / "durable"
        durable.add(path.read_bytes() if path.exists() else None)
        if (place / "careless").exists():
            careless.add((place / "careless").read_bytes())
        if (place / "folder").exists():
            folders.add((place / "folder" / "inside").read_bytes())
        if (place / "journal").exists():
            journals.append((place / "journal").read_bytes())
    assert durable == {None, b"old" * 100, b"new" * 200}
    assert b"" in careless  # a rename before its content is on the disk
    assert len(careless) > 2
    assert folders == {b"inside" * 100}
    whole = (work / "out" / "journal").read_bytes()
    first = whole[: whole.index(b"\n") + 1]
    assert all(text.rstrip(b"\0") == whole[: len(text.rstrip(b"\0"))] for text in journals)
    assert {b"", first, whole} <= set(journals)


def test_at_the_end_every_name_is_on_the_disk_new_folders_included(
    work: Path, tmp_path: Path
) -> None:
    *_, metadata, torn, flushed, chance = (place for _, _, place in states(work, tmp_path))
    for place in (metadata, torn, flushed, chance):
        names = {p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file()}
        many = {f"many/{n}" for n in range(64)}
        assert names - many == {"durable", "journal", "careless", "folder/inside", "a/b/nested"}
        assert names > many
        assert (place / "a" / "b" / "nested").read_bytes() == b"nested"
