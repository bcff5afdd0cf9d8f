"""Stage `train@TASK`: prepared data -> weights and history."""

from __future__ import annotations

import sys

from pose.distributed import launch, launched, wanted
from pose.engine import Interrupted
from pose.errors import run_main
from pose.params import load_params
from pose.training import check, train


def main(task: str) -> None:
    """Train the task with the parameters of this workspace, as several processes if they say so."""
    params = load_params()
    processes = wanted(params.train.processes)
    if processes > 1 and not launched():
        check(params, task, processes)  # here, where a mistake is one line and not one of each process
        launch(processes, "stages.train", task)
        return
    try:
        train(params, task)
    except Interrupted:
        sys.exit(f"{task}: interrupted; the same command goes on from here")


if __name__ == "__main__":
    run_main(main, *sys.argv[1:])
