"""`report/index.html`: one file that shows all evaluated tasks, and `report/summary.md`, a table of them."""

from pose.report.machine import machine_facts, revision
from pose.report.page import write_report

__all__ = ["machine_facts", "revision", "write_report"]
