"""The report: `report/index.html` on all evaluated tasks, `report/summary.md`, and `metrics/summary.json`."""

from pose.report.page import write_report

__all__ = ["write_report"]
