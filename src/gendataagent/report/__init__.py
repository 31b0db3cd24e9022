"""The report: from a run folder to one self-contained HTML page, without importing torch."""

from gendataagent.report.page import write_report

__all__ = ["write_report"]
