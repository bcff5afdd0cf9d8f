"""How many processes a command starts, and what it says of one that failed."""

import signal
from typing import Any

import pytest
import torch
from helpers import ROOT, user_error, with_values, write_params_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from pose.io.schema import read_yaml
from pose.training.launch import launch, launch_if_several, process_count, train_task


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


@pytest.mark.parametrize(("pack_size", "warned"), [(224, True), (448, False)])
def test_a_run_whose_images_are_packed_too_small_is_warned_of(
    pack_size, warned, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    values = read_yaml(ROOT / "params.yaml")
    values["single"]["input_size"] = 256
    values["prepare"]["pack_size"] = pack_size
    write_params_file(tmp_path, values)
    with user_error("data/prepared/lsp_mpii.h5: no such file"):
        train_task("hgpose")
    words = "hgpose: large images are blurred: found prepare.pack_size 224, expected 436 or more"
    assert (words in caplog.text) == warned


AE = {"kind": "ae", "stacks": 1, "features": 8, "increase": 4, "outputs": 68, "stem": [4, 8, 8]}


@pytest.mark.parametrize(("batch", "network", "warned"), [(6, {}, True), (8, {}, False), (6, AE, False)])
def test_a_run_whose_processes_normalise_few_images_is_warned_of(
    batch, network, warned, params, monkeypatch, caplog
):
    changes = {"tasks.hgpose.network": network} if network else {}  # that one normalises nothing
    few = with_values(params, {"train.processes": 2, "tasks.hgpose.batch": batch} | changes)
    monkeypatch.setattr("pose.training.launch.launch", lambda *_: None)
    monkeypatch.setattr("pose.training.launch.check_inputs", lambda *_, **__: None)
    for synced in (False, True):
        values = with_values(few, {"train.sync_batch_norm": synced})
        assert launch_if_several(values, "hgpose", "pose.cli")
    words = "hgpose: 2 processes normalise 3 images each; train.sync_batch_norm: true normalises all 6"
    assert caplog.text.count(words) == warned
