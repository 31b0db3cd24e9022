"""The rewrites of a round as they arrive, so that an interrupted round asks for none twice."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from gendataagent.core.journal import append_row, iterate_journal
from gendataagent.core.protocols import Rewrite
from gendataagent.core.rows import RowError, fit

TAKEN = "taken"


class RewriteJournal:
    """One line per batch: candidate id -> rewrite.

    Lines torn by a crash and damaged rows are skipped: their rewrites are asked for again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, rewrites: Mapping[str, Rewrite]) -> None:
        """Append a batch."""
        rows = {candidate_id: asdict(rewrite) for candidate_id, rewrite in rewrites.items()}
        append_row(self._path, rows)

    def rewrites(self) -> Iterator[tuple[str, Rewrite]]:
        """Yield candidate id and rewrite, each candidate once unless its line was damaged."""
        for rows in iterate_journal(self._path):
            for candidate_id, row in rows.items():
                with contextlib.suppress(RowError):
                    yield candidate_id, fit(Rewrite, row)

    def counts(self, ids: Iterable[str]) -> dict[str, int]:
        """Return outcome of the rewriter's replies -> count, as `RoundRecord.rewriting`.

        Args:
            ids: of the candidates that count.
        """
        counted: Counter[str] = Counter()
        known = dict(self.rewrites())
        for rewrite in (known[id_] for id_ in ids if id_ in known):
            counted[f"replaced by {rewrite.by}" if rewrite.by else TAKEN] += 1
            counted.update(f"refused: {reason}" for reason in rewrite.refusals)
        return dict(counted)
