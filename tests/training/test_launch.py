"""How many processes a command starts, and what it says of one that failed."""

import signal
from typing import Any

import pytest
import torch
from helpers import user_error
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from pose.training.launch import launch, process_count


@pytest.mark.parametrize(
    ("gpus", "processes", "expected"),
    [(0, 2, 2), (0, "auto", 1), (1, 2, 1), (1, "auto", 1), (4, 2, 2), (4, "auto", 3), (6, "auto", 6)],
)
def test_there_are_never_more_processes_than_gpus(gpus, processes, expected, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert process_count(processes, batch=6) == expected
    assert ("train.processes: found 2 for 1 GPU" in caplog.text) == ((gpus, processes) == (1, 2))
    uneven = "train.processes: using 3 of 4 GPUs, the most that share a batch of 6 evenly"
    assert (uneven in caplog.text) == ((gpus, processes) == (4, "auto"))


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ({0: 75, 1: -signal.SIGKILL}, "process 1 of 2 was ended by SIGKILL"),
        ({0: 1, 1: -signal.SIGTERM}, "process 0 of 2 ended with status 1"),
    ],
)
def test_the_process_that_failed_by_itself_is_named_on_a_line_of_its_own(
    statuses, message, monkeypatch, capsys
):
    failures = {rank: ProcessFailure(rank, 1, status, "") for rank, status in statuses.items()}

    def run(_: Any) -> None:
        raise ChildFailedError("train", failures)

    monkeypatch.setattr("torch.distributed.run.run", run)
    with user_error(f"^pose.cli train x: {message}$"):
        launch(2, "pose.cli", "train", "x")
    assert capsys.readouterr().err == "\n"  # a killed process leaves its progress bar's line open
