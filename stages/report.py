"""Stage `report`: the outputs of the other stages -> report/."""

from __future__ import annotations

from pose.io.command import run_stage
from pose.params import load_params
from pose.report import write_report


def main() -> None:
    """Write the report on all tasks that were evaluated."""
    shown = write_report(load_params())
    print(f"report/index.html: {', '.join(shown)}")


if __name__ == "__main__":
    run_stage(main)
