"""The page of a run as a whole: what stands on it, in which order."""

from __future__ import annotations

from pathlib import Path

from gendataagent.core.files import write_bytes
from gendataagent.report import facts, figures, images, models, summary
from gendataagent.report.markup import esc, name
from gendataagent.report.reading import RunView, read_run
from gendataagent.report.skeleton import document
from gendataagent.report.thumbnails import Thumbnails

_NAVIGATION = (
    ("comparison", "Figures"),
    ("hard", "Hard"),
    ("gallery", "Gallery"),
    ("classes", "Classes"),
    ("curves", "Curves"),
    ("confusions", "Confusions"),
    ("time", "Time"),
    ("models", "Models"),
    ("data", "Data"),
    ("settings", "Settings"),
    ("next", "Go on"),
)


def write_report(run_folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run, finished or not, and return where it is.

    The page is one HTML file that works offline and without scripts; its images are inside it,
    in number limited so that the page stays below about 3 MB whatever the size of the run.

    Args:
        out: where to write; `RUN/report.html` by default.

    Raises:
        RunFolderError: the folder is not that of a run.
        StorageError: the page cannot be written; an earlier one is still there.
    """
    page = out if out is not None else run_folder / "report.html"
    write_bytes(page, render(read_run(run_folder)).encode())
    return page


def render(run: RunView) -> str:
    """Return the page of a run as HTML."""
    headline, explanation = summary.verdict(run)
    thumbnails = Thumbnails()
    body = "".join(
        (
            summary.caveats(run),
            summary.comparison(run),
            images.hard(run, thumbnails),
            images.gallery(run, thumbnails),
            figures.per_class(run),
            figures.curves(run),
            figures.confusions(run),
            figures.time_spent(run),
            models.models(run),
            facts.quarantine(run),
            facts.splits(run),
            facts.settings(run),
            facts.environment(run),
            facts.going_on(run),
        )
    )
    title = run.folder.resolve().name
    return document(
        title=title,
        header=f'<p class="eyebrow">GenDataAgent · {name(title)}</p><h1>{headline}</h1>'
        f'<p class="lead">{explanation}</p>{summary.cards(run)}',
        body=body,
        navigation=_NAVIGATION,
        footer=f"Begun {esc(run.manifest.created)}. Seed {esc(run.manifest.seed)}. Everything on "
        "this page is read from the files of the run folder.",
        banner=summary.banner(run),
    )
