"""A local page to look through the candidates of a run, and to keep or drop them by hand."""

from gendataagent.report.review.serving import review

__all__ = ["review"]
