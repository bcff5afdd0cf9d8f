"""The report on all evaluated tasks: `report/index.html` and `report/summary.md`."""

from __future__ import annotations

from pose.params import load_params
from pose.report.page import write_report

__all__ = ["report", "write_report"]


def report() -> None:
    """Write the report on all tasks of this workspace that were evaluated."""
    print(f"report/index.html: {', '.join(write_report(load_params()))}")
