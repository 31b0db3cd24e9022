"""Cut the power of a command at any moment; resume; compare to the bit. Needs no root, only Linux.

    python scripts/reliability/power_cut.py run --cuts 40
    python scripts/reliability/power_cut.py adapt --cuts 25 --work /tmp/power

The command runs once to its end, and every change below its folder is recorded: files opened, what
they hold when they are flushed or renamed, folders flushed, renames, removals. A power cut after
any of these is then what a disk may hold: all that was flushed, and of the rest

    metadata  every name, but nothing of contents that were not flushed: empty files
    torn      every name, and a part of such contents, some followed by zeros
    flushed   nothing else: no name in a folder that was not flushed since
    random    any of the names and contents, in any combination

From each such folder the command is resumed, and every file that must not depend on interruptions
compared. Outcomes are appended to WORK/cuts.jsonl; started again with the same WORK, only missing
ones are made. Ends with 1 if one failed. See kill_at_every_write.py for what the commands work on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.reliability import kill_at_every_write as campaigns  # noqa: E402

COMMANDS = ("run", "adapt")
KINDS = ("metadata", "torn", "flushed", "random")
_REMOVALS = ("os.remove", "os.rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND


class Recorder:
    """Writes every change below `root` to `journal`, a line each; contents go to `contents`."""

    def __init__(self, root: Path, journal: Path, contents: Path) -> None:
        self.root, self.journal, self.contents = os.path.abspath(root), journal, contents
        self._lock = threading.RLock()
        self._recording = 0  # the thread that writes the journal, whose own files do not count

    def install(self) -> None:
        """Start to record in this process; this cannot be undone."""
        self.contents.mkdir(parents=True, exist_ok=True)
        sync = os.fsync

        def fsync(handle: int) -> None:
            sync(handle)
            path = os.readlink(f"/proc/self/fd/{handle}")
            self._add("sync", path)

        os.fsync = fsync  # type: ignore[assignment]  # the one call without an audit event
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._recording == threading.get_ident():
            return
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, mode, flags = arguments
            if any(c in mode for c in "wxa+") if mode is not None else flags & _WRITING:
                self._add("open", path, truncates="w" in (mode or ""))
        elif event == "os.rename":
            self._add("rename", arguments[0], arguments[1])
        elif event == "os.mkdir":
            self._add("mkdir", arguments[0])
        elif event == "shutil.rmtree" or (event in _REMOVALS and arguments[1] == -1):
            self._add("remove", arguments[0])

    def _add(self, what: str, path: Any, to: Any = None, *, truncates: bool = False) -> None:
        place = os.path.abspath(os.fsdecode(path))
        if not place.startswith(self.root):
            return
        exists = os.path.lexists(place)
        if (what == "mkdir" and exists) or (what in ("remove", "rename") and not exists):
            return
        with self._lock:
            self._recording = threading.get_ident()
            try:
                row: dict[str, Any] = {"what": what, "path": os.path.relpath(place, self.root)}
                if truncates:
                    row["truncates"] = True
                if to is not None:
                    row["to"] = os.path.relpath(os.fsdecode(to), self.root)
                if what in ("sync", "rename") and os.path.isfile(place):
                    row["content"] = self._kept(Path(place))
                with open(self.journal, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
            finally:
                self._recording = 0

    def _kept(self, path: Path) -> str:
        content = path.read_bytes()
        name = hashlib.sha256(content).hexdigest()
        if not (self.contents / name).exists():
            (self.contents / name).write_bytes(content)
        return name


@dataclass(eq=False)
class Node:
    """A file or folder, whatever its name is at the moment.

    Args:
        entries: of a folder, all names so far; None for a file.
        flushed: of a folder, the names that are on the disk for certain.
        pending: of a folder, names given (None = taken away) since it was flushed, in order.
        content, synced: of a file, what was last written and what is on the disk, as hashes.
    """

    entries: dict[str, Node] | None = None
    flushed: dict[str, Node] = field(default_factory=dict)
    pending: list[tuple[str, Node | None]] = field(default_factory=list)
    content: str = ""
    synced: str = ""


class Disk:
    """What a disk may hold after the first `count` changes of a recording."""

    def __init__(self, rows: Sequence[dict[str, Any]], count: int, contents: Path) -> None:
        self._contents = contents
        self.root = Node(entries={})
        for number, row in enumerate(rows[:count]):
            self._apply(row, rows[number + 1 :])

    def _apply(self, row: dict[str, Any], later: Sequence[dict[str, Any]]) -> None:
        what, path = row["what"], row["path"]
        if path == ".":
            if what == "sync":
                self._flush(self.root)
            return
        parent, name = self._place(path)
        assert parent.entries is not None
        node = parent.entries.get(name)
        if what in ("mkdir", "remove"):
            self._name(parent, name, Node(entries={}) if what == "mkdir" else None)
            return
        if node is None:  # new, or written by a library, past Python
            node = Node()
            self._name(parent, name, node)
        if what == "open":
            seen = (other for other in later if other["path"] == path and "content" in other)
            node.content = next(seen, {"content": ""})["content"]  # some of it may be there
            node.synced = "" if row.get("truncates") else node.synced
        elif what == "rename":
            node.content = row.get("content", "")
            self._name(parent, name, None)
            self._name(*self._place(row["to"]), node)
        elif node.entries is not None:
            self._flush(node)
        else:
            node.content = node.synced = row["content"]

    def _place(self, path: str) -> tuple[Node, str]:
        *folders, name = path.split(os.sep)
        node = self.root
        for part in folders:
            assert node.entries is not None
            if part not in node.entries:  # made by a library, past Python
                self._name(node, part, Node(entries={}))
            node = node.entries[part]
        return node, name

    @staticmethod
    def _name(parent: Node, name: str, node: Node | None) -> None:
        assert parent.entries is not None
        if node is None:
            parent.entries.pop(name, None)
        else:
            parent.entries[name] = node
        parent.pending.append((name, node))

    @staticmethod
    def _flush(folder: Node) -> None:
        assert folder.entries is not None
        folder.flushed, folder.pending = dict(folder.entries), []

    def write(self, folder: Path, kind: str, seed: int) -> None:
        """Write what the disk may hold after a power cut to a new `folder`."""
        folder.mkdir(parents=True)
        self._write(self.root, folder, kind, random.Random(seed))

    def _write(self, node: Node, place: Path, kind: str, chance: random.Random) -> None:
        for name, inside in self._names(node, kind, chance).items():
            if inside.entries is not None:
                (place / name).mkdir(exist_ok=True)
                self._write(inside, place / name, kind, chance)
            else:
                (place / name).write_bytes(self._content(inside, kind, chance))

    @staticmethod
    def _names(node: Node, kind: str, chance: random.Random) -> dict[str, Node]:
        assert node.entries is not None
        if kind == "flushed":
            return node.flushed
        if kind != "random":
            return node.entries
        names = dict(node.flushed)
        for name, other in node.pending:
            if chance.random() < 0.5:
                continue
            if other is None:
                names.pop(name, None)
            else:
                names[name] = other
        return names

    def _content(self, node: Node, kind: str, chance: random.Random) -> bytes:
        synced, written = self._read(node.synced), self._read(node.content)
        if synced == written or kind in ("metadata", "flushed"):
            return synced
        if kind == "random" and chance.random() < 0.3:
            return synced
        start = len(synced) if written.startswith(synced) else 0  # appended to
        end = chance.randint(start, len(written))
        zeros = len(written) - end if chance.random() < 0.3 else 0
        return written[:end] + bytes(zeros)

    def _read(self, name: str) -> bytes:
        return (self._contents / name).read_bytes() if name else b""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A power cut after change number `at`; no problem = the same to the bit once resumed."""

    command: str
    kind: str
    at: int
    seconds: float
    problem: str = ""


def recorded(campaign: campaigns.Campaign) -> list[dict[str, Any]]:
    """Return the changes of the command, recorded once."""
    journal = campaign.work / f"{campaign.command}.changes.jsonl"
    done = journal.with_suffix(".done")
    if not done.exists():
        journal.unlink(missing_ok=True)
        recorder = Recorder(campaign.out, journal, campaign.work / "contents")
        if campaign.start(campaign.begin(), recorder):
            raise SystemExit(f"the undisturbed {campaign.command} failed; see {campaign.log}")
        done.touch()
    return [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]


def cut(
    campaign: campaigns.Campaign, rows: Sequence[dict[str, Any]], at: int, kind: str,
    expected: dict[str, str],
) -> Cut:  # fmt: skip
    """Leave what a disk may hold after a power cut, resume, and compare."""
    started = time.monotonic()
    campaign.clean()
    Disk(rows, at, campaign.work / "contents").write(campaign.out, kind, seed=at)
    problem = campaign.resumed(expected)
    seconds = round(time.monotonic() - started, 2)
    return Cut(command=campaign.command, kind=kind, at=at, seconds=seconds, problem=problem)


def all_cuts(campaign: campaigns.Campaign, cuts: int) -> int:
    """Make the missing cuts of a command, evenly spaced; return how many of all have failed."""
    campaign.work.mkdir(parents=True, exist_ok=True)
    journal = campaign.work / "cuts.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    known = {(row["command"], row["at"]): row for row in map(json.loads, lines)}
    expected, _ = campaign.reference()
    rows = recorded(campaign)
    cuts = min(cuts, len(rows)) or len(rows)
    print(f"{campaign.command}: {len(rows)} changes, {cuts} power cuts", flush=True)
    failed = 0
    for number in range(cuts):
        at, kind = 1 + number * len(rows) // cuts, KINDS[number % len(KINDS)]
        row = known.get((campaign.command, at))
        if row is None:
            row = asdict(cut(campaign, rows, at, kind, expected))
            with open(journal, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        failed += bool(row["problem"])
        change = f"{rows[at - 1]['what']} {rows[at - 1]['path']}"
        print(
            f"  {number + 1}/{cuts}  after {at}, {change}, {row['kind']}: "
            f"{row['problem'] or 'the same to the bit'} ({row['seconds']} s)",
            flush=True,
        )
    print(f"{campaign.command}: {failed} of {cuts} failed", flush=True)
    return failed


def main() -> None:
    """Make the missing power cuts of each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--cuts", type=int, default=0, help="how many; 0 = after every change")
    parser.add_argument("--work", type=Path, default=Path("runs/power-cut"))
    options = parser.parse_args()
    if any(name not in COMMANDS for name in options.commands) or options.cuts < 0:
        parser.error(f"commands are {', '.join(COMMANDS)}; --cuts is at least 0")
    campaigns.preload()
    work = options.work.resolve()
    names = options.commands or COMMANDS
    raise SystemExit(
        1 if sum(all_cuts(campaigns.Campaign(name, work), options.cuts) for name in names) else 0
    )


if __name__ == "__main__":
    main()
