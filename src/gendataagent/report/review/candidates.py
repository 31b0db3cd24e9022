"""The candidates of a run's finished rounds: found, sorted, and decided by hand.

Thread-safe: every request of the page comes in a thread of its own.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from gendataagent.agent.by_hand.decisions import (
    HandDecision,
    append_decisions,
    pool_name,
    refuse_unkeepable,
)
from gendataagent.agent.by_hand.in_effect import current_decisions
from gendataagent.agent.by_hand.rules import DROP, KEEP, UNDECIDED, why_not_keepable
from gendataagent.config.run_config_file import read_run_config
from gendataagent.core import files
from gendataagent.core.errors import RunFolderError
from gendataagent.core.record_table import RecordTable
from gendataagent.core.records import Candidate, candidate_id
from gendataagent.core.run_folder import DONE, RunFolder
from gendataagent.core.seals import read_mark
from gendataagent.report.markup import printable
from gendataagent.report.review.query import Entry, Query, RequestError
from gendataagent.report.wording import rejection

JUDGED_FILE = "judged.parquet"
PAGE = 48
IN_POOL, NOT_IN_POOL, BY_HAND, UNDECIDED_YET = "in", "out", "by-hand", "undecided"
KEPT_BY_RUN, REASON = "kept", "reason:"


class Candidates:
    """All candidates of the finished rounds of a run, and what was decided about them.

    Args:
        folder: its decisions are held for writing.

    Attributes:
        problems: a sentence for each round that cannot be shown.

    Raises:
        RunFolderError: there is nothing to review, or the decisions cannot be used.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.config = read_run_config(folder)
        self.problems: list[str] = []
        self._lock = threading.RLock()
        self._entries: list[Entry] = []
        self._of_id: dict[str, Entry] = {}
        self._tables: dict[int, RecordTable[Candidate]] = {}
        self._sums: dict[int, Mapping[str, str]] = {}
        self._sorted: dict[tuple[str, str], tuple[list[Entry], dict[str, int]]] = {}
        self._kept_by_run = 0
        self._sources: set[str] = set()
        self._undo: list[list[tuple[str, str]]] = []
        self._seen: set[int] = set()
        if not self.config.agent.enabled:
            raise RunFolderError(
                f"the run in {folder.path} trains on real images alone (agent.enabled=false), so "
                "there is nothing to review"
            )
        self._decisions = dict(current_decisions(folder).of_id)
        self.refresh()
        if not self._entries:
            raise RunFolderError(self._nothing())
        for entry in (self._of_id[id_] for id_ in self._decisions if id_ in self._of_id):
            if self._decisions[entry.id] == KEEP:
                refuse_unkeepable(folder, entry.id, entry.rejected_by, self.config.filter.by)

    def _nothing(self) -> str:
        if self.problems:
            return f"no round can be reviewed: {self.problems[0]}"
        if self._folder.is_done:
            return (
                f"the run in {self._folder.path} ended without a round, so nothing can be reviewed"
            )
        return (
            f"no round of {self._folder.path} is finished yet; try again once the run says "
            '"round 1 of ..."'
        )

    def refresh(self) -> None:
        """Read rounds that were finished since the last call."""
        with self._lock:
            marks = sorted(self._folder.path.glob(f"rounds/[0-9]*/{DONE}"))
            for number in (int(m.parent.name) for m in marks if m.parent.name.isdecimal()):
                if number not in self._seen:
                    self._seen.add(number)
                    try:
                        self._add(number)
                    except RunFolderError as error:
                        self.problems.append(str(error))

    def _add(self, number: int) -> None:
        self._folder.check_in_round(number, JUDGED_FILE)
        sums = read_mark(self._folder.round(number) / DONE)
        table = RecordTable.read(Candidate, self._folder.round(number) / JUDGED_FILE)
        names = ("id", "label", "class_name", "source_id", "vog", "marginal_score", "rejected_by")
        columns = zip(*(table.column(name) for name in names), strict=True)
        before = len(self._entries)
        added = [
            Entry(
                before + row, number, row, id_, label, name, src, _finite(vog), _finite(score), why
            )
            for row, (id_, label, name, src, vog, score, why) in enumerate(columns)
        ]
        self._tables[number], self._sums[number] = table, sums
        self._entries += added
        self._kept_by_run += sum(entry.rejected_by is None for entry in added)
        self._sources.update(printable(entry.source_id).casefold() for entry in added)
        self._of_id.update((entry.id, entry) for entry in added)
        self._sorted.clear()

    # What is there

    @property
    def rounds(self) -> list[int]:
        """The numbers of the rounds that are shown."""
        return sorted(self._tables)

    @property
    def classes(self) -> list[tuple[int, str]]:
        """Label and name of each class with candidates, by name."""
        return sorted({(e.label, e.class_name) for e in self._entries}, key=lambda pair: pair[1])

    @property
    def reasons(self) -> list[str]:
        """The reasons for which candidates were rejected."""
        return sorted({e.rejected_by for e in self._entries if e.rejected_by is not None})

    @property
    def has_vog(self) -> bool:
        """Whether the filter has left scores."""
        return any(entry.vog is not None for entry in self._entries)

    def in_pool(self, entry: Entry) -> bool:
        """Return whether an image is in training and in exports, decisions included."""
        decision = self._decisions.get(entry.id)
        return decision == KEEP or (entry.rejected_by is None and decision != DROP)

    def counts(self) -> dict[str, int]:
        """Return how many candidates there are, are in the pool, and were decided by hand."""
        with self._lock:
            of = [(self._of_id[id_], decision) for id_, decision in self._decisions.items()
                  if id_ in self._of_id]  # fmt: skip
            dropped = sum(d == DROP and e.rejected_by is None for e, d in of)
            kept = sum(d == KEEP and e.rejected_by is not None for e, d in of)
            return {
                "total": len(self._entries),
                "in_pool": self._kept_by_run - dropped + kept,
                "dropped": dropped,
                "kept": kept,
                "decided": len(of),
                "undoable": len(self._undo),
            }

    def page(
        self, query: Query, *, first: str = "", after: str = "", before: str = ""
    ) -> dict[str, Any]:
        """Return one page of what matches, for the browser.

        Args:
            first, after, before: id of a candidate that the page begins with, follows or precedes,
                whether it still matches or not; by default the first page.
        """
        with self._lock:
            matches = self._test(query)
            order, places = self._in_order(query)
            matching = [entry for entry in order if matches(entry)]
            at = places.get(first or after or before, 0)
            start = sum(places[entry.id] < at for entry in matching)
            if after:
                start = sum(places[entry.id] <= at for entry in matching)
            if before:
                start = max(0, start - PAGE)
            if start >= len(matching):
                start = max(0, (len(matching) - 1) // PAGE * PAGE)
            return {
                "counts": self.counts(),
                "matching": len(matching),
                "droppable": sum(map(self.in_pool, matching)),
                "start": start,
                "items": [self._shown(entry) for entry in matching[start : start + PAGE]],
            }

    def _in_order(self, query: Query) -> tuple[list[Entry], dict[str, int]]:
        """Return all candidates in order, and id -> place."""
        key = (query.sort, query.score if query.sort in ("low", "high") else "")
        if key not in self._sorted:
            order = sorted(self._entries, key=query.order())
            self._sorted[key] = order, {entry.id: at for at, entry in enumerate(order)}
        return self._sorted[key]

    def _test(self, query: Query) -> Callable[[Entry], bool]:
        """Return whether a candidate matches; raise `RequestError` for an unknown verdict."""
        bounded = query.low > -math.inf or query.high < math.inf
        verdicts: Mapping[str, Callable[[Entry], bool]] = {
            "": lambda _: True,
            IN_POOL: self.in_pool,
            NOT_IN_POOL: lambda entry: not self.in_pool(entry),
            KEPT_BY_RUN: lambda entry: entry.rejected_by is None,
            BY_HAND: lambda entry: entry.id in self._decisions,
            UNDECIDED_YET: lambda entry: entry.id not in self._decisions,
            **{REASON + reason: partial(_is_rejected_for, reason) for reason in self.reasons},
        }
        if query.verdict not in verdicts:
            raise RequestError(f"there is no verdict {query.verdict[:40]!r}")
        has_verdict = verdicts[query.verdict]

        exact = query.source in self._sources  # not train-10 beside train-1

        def matches(entry: Entry) -> bool:
            source = printable(entry.source_id).casefold()
            score = entry.score(query.score)
            return (
                (not query.label or str(entry.label) == query.label)
                and (not query.round or str(entry.round) == query.round)
                and (query.source == source if exact else query.source in source)
                and (not bounded or (score is not None and query.low <= score <= query.high))
                and has_verdict(entry)
            )

        return matches

    def shown(self, id_: str) -> dict[str, Any]:
        """Return what the browser shows of a candidate; raise `RequestError` if there is none."""
        with self._lock:
            return self._shown(self._entry(id_))

    def _shown(self, entry: Entry) -> dict[str, Any]:
        candidate = self._tables[entry.round][entry.row]
        why = why_not_keepable(entry.rejected_by, self.config.filter.by)
        return {
            "id": entry.id,
            "round": entry.round,
            "class": printable(entry.class_name),
            "source": printable(entry.source_id),
            "verdict": rejection(entry.rejected_by) if entry.rejected_by else "kept by the filter",
            "in_pool": self.in_pool(entry),
            "decision": self._decisions.get(entry.id, UNDECIDED),
            "vog": entry.vog,
            "source_score": entry.source_score,
            "source_caption": printable(candidate.source_caption or ""),
            "prompt": printable(candidate.prompt or ""),
            "has_image": pool_name(entry.round, entry.id) in self._sums[entry.round],
            "has_source": self._source_name(entry) in self._sums[entry.round],
            "why_not": why or "",
        }

    # Images

    def image(self, id_: str) -> bytes:
        """Return the image file of a candidate; raise `RequestError` if it is lost or changed."""
        entry = self._entry(id_)
        return self._whole(entry, pool_name(entry.round, entry.id))

    def source_image(self, id_: str) -> bytes:
        """Return the image file of a candidate's source; raise `RequestError` likewise."""
        entry = self._entry(id_)
        return self._whole(entry, self._source_name(entry))

    def _source_name(self, entry: Entry) -> str:
        name = candidate_id(entry.round, entry.source_id, 0).split("-")[1]
        return f"rounds/{entry.round:03d}/sources/{name}.png"

    def _whole(self, entry: Entry, name: str) -> bytes:
        """Return a file that the mark of a round lists, if it is what was written."""
        digest, path = self._sums[entry.round].get(name), self._folder.path / name
        if digest is None:
            raise RequestError("there is no image")
        try:
            content = files.read_bytes(path)
        except OSError as error:
            raise RequestError(f"{path} cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise RequestError(f"{path} has changed since it was written")
        return content

    def _entry(self, id_: str) -> Entry:
        entry = self._of_id.get(id_)
        if entry is None:
            raise RequestError(f"this run has no candidate {id_[:80]!r}")
        return entry

    # Decisions

    def decide(self, id_: str, decision: str) -> None:
        """Keep or drop one image, or take that back; durable when this returns.

        Raises:
            RequestError: no such candidate, or it cannot be decided so; says why.
            StorageError: the decision cannot be written.
        """
        with self._lock:
            entry = self._entry(id_)
            if decision not in (KEEP, DROP, UNDECIDED):
                raise RequestError(f"{decision[:40]!r} is not keep, drop or none")
            if pool_name(entry.round, entry.id) not in self._sums[entry.round]:
                raise RequestError("there is no image to decide about")
            if decision == KEEP:
                if why := why_not_keepable(entry.rejected_by, self.config.filter.by):
                    raise RequestError(f"it cannot be kept by hand: {why}")
                self.image(id_)
            self._write([(id_, decision)])

    def drop_matching(self, query: Query, expected: int) -> int:
        """Drop all that matches and is in the pool; return how many.

        Args:
            expected: how many the person was told; another number changes nothing.

        Raises:
            RequestError, StorageError: as `decide`.
        """
        with self._lock:
            matches = self._test(query)
            found = [e for e in self._entries if self.in_pool(e) and matches(e)]
            if len(found) != expected:
                raise RequestError(f"{len(found)} images match now, not {expected}; look again")
            self._write([(entry.id, DROP) for entry in found])
            return len(found)

    def undo(self) -> list[str]:
        """Take back the last change of this review; return the ids that it was about.

        Raises:
            RequestError: there is none.
            StorageError: as `decide`.
        """
        with self._lock:
            if not self._undo:
                raise RequestError("there is nothing to undo since this review was opened")
            before = self._undo[-1]
            self._write(before)
            del self._undo[-2:]  # what was just written, and what it took back
            return [id_ for id_, _ in before]

    def _write(self, changes: Sequence[tuple[str, str]]) -> None:
        before = [(id_, self._decisions.get(id_, UNDECIDED)) for id_, _ in changes]
        if before == list(changes):
            return
        append_decisions(self._folder, list(self._rows(changes)))
        for id_, decision in changes:
            self._decisions[id_] = decision
            if decision == UNDECIDED:
                del self._decisions[id_]
        self._undo.append(before)

    def _rows(self, changes: Sequence[tuple[str, str]]) -> Iterator[HandDecision]:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for id_, decision in changes:
            number = self._of_id[id_].round
            digest = self._sums[number][pool_name(number, id_)]
            yield HandDecision(id=id_, round=number, decision=decision, sha256=digest, at=now)


def _finite(value: float | None) -> float | None:
    """Return a number that JSON can hold and that can be sorted; None for another."""
    return value if value is not None and math.isfinite(value) else None


def _is_rejected_for(reason: str, entry: Entry) -> bool:
    return entry.rejected_by == reason
