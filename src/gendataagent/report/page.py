"""`write_report`: the page of a run, its sections in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gendataagent.core.files import write_bytes
from gendataagent.core.seals import CHANGED
from gendataagent.report.html_document import document
from gendataagent.report.markup import esc, name
from gendataagent.report.run_reader import read_run
from gendataagent.report.run_view import RunView
from gendataagent.report.sections import (
    confusions,
    coverage,
    details,
    feedback,
    filtering,
    gallery,
    metrics,
    mistakes,
    models,
    summary,
)
from gendataagent.report.sections.gallery import selected_title
from gendataagent.report.thumbnails import Thumbnails

_NAVIGATION = (
    ("comparison", "Results"),
    ("feedback", "Feedback"),
    ("gallery", "Gallery"),
    ("filter", "Kept"),
    ("classes", "Classes"),
    ("mistakes", "Test images"),
    ("confusions", "Confusions"),
    ("curves", "Curves"),
    ("time", "Time"),
    ("models", "Models"),
    ("data", "Data"),
    ("settings", "Settings"),
    ("next", "Next steps"),
)


def write_report(
    run_folder: str | Path,
    out: str | Path | None = None,
    *,
    on_problem: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write the report of a run, finished or not, and return its path.

    The page is one HTML file that works offline and without scripts. Its images are embedded, and
    their number is limited so that the page stays below about 3 MB for a run of any size.

    Args:
        out: where to write; `RUN/report.html` by default.
        on_problem: called with a sentence for each file that cannot be read or has changed.

    Raises:
        RunFolderError: not a run folder.
        StorageError: the page cannot be written; an existing one is unchanged.
    """
    run_folder = Path(run_folder)
    page = Path(out) if out is not None else run_folder / "report.html"
    html, problems = render(read_run(run_folder), page.parent)
    write_bytes(page, html.encode())
    for problem in problems:
        on_problem(problem)
    return page


def render(run: RunView, page_folder: Path) -> tuple[str, list[str]]:
    """Return the page of a run as HTML, and a sentence for each damaged file.

    Args:
        page_folder: where the page will be; it links to the images of the run that lie below.
    """
    headline, explanation = summary.headline(run)
    thumbnails = Thumbnails(is_whole=run.is_whole, page_folder=page_folder)
    sections = "".join(
        (
            summary.comparison(run),
            gallery.hard_images(run, thumbnails),
            feedback.feedback(run, thumbnails),
            gallery.gallery(run, thumbnails),
            filtering.filtering(run),
            coverage.coverage(run),
            metrics.per_class(run),
            mistakes.mistakes(run, thumbnails),
            confusions.confusions(run),
            metrics.curves(run),
            metrics.time_spent(run),
            models.models(run),
            details.quarantine(run),
            details.splits(run),
            details.settings(run),
            details.environment(run),
            details.next_steps(run),
        )
    )
    left_out = (f"{path} {CHANGED}; it is left out" for path in thumbnails.changed)
    problems = [*run.problems, *left_out]
    body = summary.caveats(run, problems) + sections
    title = run.folder.resolve().name
    html = document(
        title=title,
        header=f'<p class="eyebrow">GenDataAgent · {name(title)}</p><h1>{headline}</h1>'
        f'{summary.verdict(run)}<p class="lead">{explanation}</p>{summary.use(run)}'
        f"{summary.cards(run)}",
        body=body,
        navigation=(("hard", selected_title(run)), *_NAVIGATION),
        footer=f"Started {esc(run.manifest.created)}. Seed {esc(run.manifest.seed)}. Everything "
        "on this page is read from the run folder.",
        banner=summary.banner(run) + summary.damage(run, problems),
    )
    return html, problems
