"""`report/index.html`: one file that shows all evaluated tasks; `report/summary.md`, a table, and `metrics/summary.json`, their figures."""

from pose.report.machine import machine_facts, revision
from pose.report.page import write_report

__all__ = ["machine_facts", "revision", "write_report"]
