"""Run the experiments that a study lists, each as a DVC experiment, and write their figures beside the list.

    python -m stages.study studies/adversary.yaml

Best in a clone of its own: an experiment leaves its figures in the workspace (`git checkout .` takes them
back). What the table has already is not run again, so an interrupted study goes on where it was. Every
experiment begins from the committed params.yaml.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pose.experiments.study import run_study
from pose.io.errors import run_main


def main(path: str) -> None:
    """Run what the table lacks."""
    print(run_study(Path(path)))


if __name__ == "__main__":
    run_main(main, *sys.argv[1:])
