"""Write `report/index.html`, `report/summary.md` and `metrics/summary.json` from what the other stages left."""

from __future__ import annotations

from pose.errors import run_main
from pose.params import load_params
from pose.report import machine_facts, revision, write_report


def main() -> None:
    """Run the stage."""
    shown = write_report(load_params(), revision=revision(), machine=machine_facts())
    print(f"report/index.html: {', '.join(shown)}")


if __name__ == "__main__":
    run_main(main)
