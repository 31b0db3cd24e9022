"""A run folder in, one self-contained HTML page out; a pure reader that never imports torch."""

from gendataagent.report.page import write_report

__all__ = ["write_report"]
