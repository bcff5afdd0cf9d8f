"""Stage `report`: the outputs of the other stages -> report/."""

from __future__ import annotations

from pose.io.command import run_stage
from pose.report import report as main

if __name__ == "__main__":
    run_stage(main)
