"""The report on all evaluated tasks: `report/index.html` and `report/summary.md`."""

from pose.report.page import write_report

__all__ = ["write_report"]
