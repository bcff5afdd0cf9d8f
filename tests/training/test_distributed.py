"""Several processes that train one network.

What they learn is what one would, and they end together. Real torchrun, gloo, CPU.

By hand, for longer: POSE_HANG_STEPS and POSE_HANG_REPEATS, and POSE_HANG_DATA, a folder that holds a prepared
`coco`, for other pictures.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from distributed_worker import CASES, WHOLE_BATCH, play, tensors
from helpers import (
    NO_GPU,
    ROOT,
    clean_environment,
    make_workspace,
    only_error,
    run_stage,
    set_param,
    start_stage,
    write_params_file,
)

from pose.data.image_set import ImageSet
from pose.data.loader import ResumableBatchSampler
from pose.data.prepare.coco import prepare_coco
from pose.io.errors import UserError
from pose.models.weights import load_checkpoint, load_weights
from pose.params import Params, parse_params
from pose.tasks.multi import MultiData
from pose.training.distributed import Ranks, join, process_count

pytestmark = pytest.mark.slow
WORKER = ROOT / "tests" / "distributed_worker.py"


def torchrun(*words: str, folder: Path) -> subprocess.Popen:
    """torchrun with these words, in a folder, as a user starts it."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DVC"))
    }
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **NO_GPU}
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen, *, within: float) -> tuple[int, str, str]:
    """Status and output; an error if it hangs. torchrun's processes end themselves after it."""
    try:
        out, err = process.communicate(timeout=within)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("gpus", "processes", "expected"),
    [(0, 2, 2), (0, "auto", 1), (1, 2, 1), (1, "auto", 1), (4, 2, 2), (4, "auto", 4)],
)
def test_there_are_never_more_processes_than_gpus(
    gpus, processes, expected, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert process_count(processes) == expected
    assert ("train.processes: found 2 for 1 GPU" in capsys.readouterr().out) == ((gpus, processes) == (1, 2))


def test_a_process_without_a_gpu_of_its_own_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pose.training.distributed._end_though_stuck", lambda: None)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="found process 2 on a machine of 1 GPUs"):
        join()


# --- the same as one process ---


@dataclass(frozen=True)
class Played:
    """Parameters of a hard game, and what each of two processes wrote: see the worker."""

    params: Params
    of_rank: list[dict[str, Any]]


@pytest.fixture(scope="module")
def played(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Every case, played by two processes."""
    folder = tmp_path_factory.mktemp("played")
    values = params.model_dump()
    values["train"]["precision"] = "float32"
    values["lr"] = (
        1e-4  # at a higher one a tiny network with BatchNorm is chaotic: rounding errors grow tenfold with every step
    )
    for task in ("advpose", "advpose-ae"):
        values["tasks"][task]["adversary"] |= {"start": 0.0, "weight": 1.0, "balance_rate": 0.1, "gamma": 1.5}
    write_params_file(folder, values)
    status, _, err = ended(
        torchrun("--standalone", "--nproc-per-node=2", str(WORKER), "play", str(folder), folder=folder),
        within=200,
    )
    assert status == 0, err
    return Played(
        parse_params(values), [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    )


@pytest.mark.parametrize("case", range(len(CASES)), ids=["-".join(case) for case in CASES])
def test_two_processes_learn_what_one_learns_from_the_whole_batch(played: Played, case: int):
    task, norm = CASES[case]
    first, second = (tensors(rank["states"][case]) for rank in played.of_rank)
    assert all(torch.equal(first[path], second[path]) for path in first), "the two processes have gone apart"
    alone = tensors(play(played.params, task, norm, Ranks()))
    assert first.keys() == alone.keys()
    for path, expected in alone.items():
        floor = (
            1e-15 if "optimizer" in path else 1e-9
        )  # means of squared gradients are small, and are to agree as well
        assert float((first[path] - expected).abs().max()) <= 1e-9 * float(expected.abs().max()) + floor, path
    if "adv" in task:
        assert 0.01 < alone["/adversary/k"] < 0.99, "the game must move k_t, else nothing is tested"


def test_processes_with_unlike_parameters_all_say_which(played: Played):
    assert [rank["unlike"] for rank in played.of_rank] == 2 * [
        "lr: found 1 in process 1 and 0 in process 0, expected the same on all machines"
    ]


def test_what_the_first_process_has_read_all_have(played: Played):
    assert [rank["read"] for rank in played.of_rank] == [0, 0]


def test_three_processes_have_the_same_gradients_of_a_step_whichever_of_a_start_it_is(
    params: Params, tmp_path: Path
):
    values = params.model_dump()
    values["tasks"]["hgpose"]["network"] |= {"features": 16}
    write_params_file(tmp_path, values)
    worker = torchrun(
        "--standalone", "--nproc-per-node=3", str(WORKER), "repeat", str(tmp_path), folder=tmp_path
    )
    status, _, err = ended(worker, within=120)
    assert status == 0, err
    assert [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(3)] == 3 * [
        {"first": True, "other": False}
    ]


# --- no hang ---


def with_half_the_pictures_empty(params: Params, drawn_root: Path, folder: Path) -> Path:
    """A prepared folder in which every second picture to train on shows nobody."""
    raw = folder / "raw" / "coco"
    shutil.copytree(drawn_root / "coco", raw)
    [path] = raw.glob("annotations/person_keypoints_train*.json")
    content = json.loads(path.read_text())
    empty = {image["id"] for image in content["images"][::2]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in empty]
    path.write_text(json.dumps(content))
    anybody = params.prepare.coco.model_dump() | {"min_people": {"train": 0, "validation": 1}}
    prepare_coco(
        raw.parent,
        folder / "prepared" / "coco",
        params=type(params.prepare.coco)(**anybody),
        seed=params.seed,
        workers=1,
    )
    return folder / "prepared" / "coco"


def lonely_steps(params: Params, prepared_coco: Path, steps: int) -> int:
    """In how many steps one of two processes has nobody to learn from, and the other has."""
    images = ImageSet(prepared_coco)
    rows = MultiData(images, params.multi, 0).rows("train")
    nobody = ~np.isin(rows, images.row_N)
    batches = [
        ResumableBatchSampler(
            len(rows), WHOLE_BATCH, seed=params.seed, start=0, stop=steps, rank=rank, ranks=2
        )
        for rank in (0, 1)
    ]
    empty = [[nobody[[position for _, position in batch]].all() for batch in of_rank] for of_rank in batches]
    return int((np.array(empty[0]) ^ np.array(empty[1])).sum())


def test_processes_that_come_late_at_random_and_with_nobody_in_the_picture_do_not_hang(
    params: Params, prepared: Path, drawn_root: Path, tmp_path: Path
):
    steps, other = int(os.environ.get("POSE_HANG_STEPS", "60")), os.environ.get("POSE_HANG_DATA")
    prepared_coco = (
        Path(other).resolve() / "coco"
        if other
        else with_half_the_pictures_empty(params, drawn_root, tmp_path)
    )
    assert other or lonely_steps(params, prepared_coco, steps) > steps / 20
    per_epoch = len(MultiData(ImageSet(prepared_coco), params.multi, 0).rows("train")) // WHOLE_BATCH
    for turn in range(int(os.environ.get("POSE_HANG_REPEATS", "1"))):
        folder = make_workspace(tmp_path / str(turn), params, prepared, prepared_coco)
        set_param(folder, "tasks.advpose-ae.epochs", -(-steps // per_epoch))
        set_param(folder, "train.validate_every", max(1, 20 // per_epoch))
        set_param(folder, "tasks.advpose-ae.adversary.start", 0.25)
        words = ["--standalone", "--nproc-per-node=2", str(WORKER), "train", "advpose-ae"]
        status, out, err = ended(torchrun(*words, folder=folder), within=120 + steps)
        assert status == 0, err
        assert "advpose-ae: trained" in out


# --- ending together ---


def process_of_rank(process: subprocess.Popen, rank: int) -> psutil.Process:
    """That one of the processes which torchrun has started."""
    [found] = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if child.environ().get("RANK") == str(rank)
    ]
    return found


def once_saved(process: subprocess.Popen, folder: Path, *, beyond: int = 0) -> None:
    """Wait until a run has saved a state after this step."""
    state, deadline = folder / "checkpoints/advpose/latest.pt", time.monotonic() + 300
    while not state.exists() or load_checkpoint(state)["progress"]["step"] <= beyond:
        assert process.poll() is None, process.communicate()[1]
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"no state after step {beyond}")
        time.sleep(0.1)


def killed(process: subprocess.Popen, rank: int) -> tuple[int, str, str]:
    process_of_rank(process, rank).kill()
    return ended(process, within=30)


def end_soon(folder: Path) -> int:
    """Let the run end in the epoch that it is in; the step that it is at."""
    step = load_checkpoint(folder / "checkpoints/advpose/latest.pt")["progress"]["step"]
    set_param(folder, "tasks.advpose.epochs", step // 11 + 1)
    return step


@pytest.fixture
def workspace(params: Params, prepared: Path, prepared_coco: Path, tmp_path: Path) -> Path:
    """A folder in which two processes would train advpose for long."""
    folder = make_workspace(tmp_path / "one", params, prepared, prepared_coco)
    set_param(folder, "train.processes", 2)
    set_param(folder, "tasks.advpose.epochs", 400)
    set_param(folder, "tasks.advpose.adversary.start", 0.0)
    return folder


def test_when_one_process_is_killed_all_end_at_once_and_the_run_goes_on_with_two_or_one(workspace: Path):
    process = start_stage("train", "advpose", folder=workspace)
    once_saved(process, workspace)
    result = killed(process, 1)
    assert only_error(result) == "error: stages.train advpose: process 1 of 2 was ended by SIGKILL"
    step = load_checkpoint(workspace / "checkpoints/advpose/latest.pt")["progress"]["step"]

    process = start_stage("train", "advpose", folder=workspace)
    once_saved(process, workspace, beyond=step)
    result = killed(process, 0)
    assert only_error(result) == "error: stages.train advpose: process 0 of 2 was ended by SIGKILL"
    assert f"goes on from step {step:,} of" in result[1]

    set_param(workspace, "train.processes", 1)
    step = end_soon(workspace)
    status, out, err = run_stage("train", "advpose", folder=workspace)
    assert status == 0, err
    assert f"goes on from step {step:,} of" in out
    assert "processes was 2, is 1: the samples stay the same" in out
    assert "advpose: trained" in out


def test_the_error_stands_on_a_line_of_its_own_though_a_killed_process_left_its_progress_bar_open(
    tmp_path: Path,
):
    (tmp_path / "bar.py").write_text(
        "import os, sys\nprint('step 3 of 9', end='', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    ours_too = clean_environment() | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    words = "from pose.training.distributed import launch; from pose.io.errors import run_main; run_main(launch, 2, 'bar')"
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=tmp_path, env=ours_too, capture_output=True, text=True, timeout=120
    )
    assert only_error((done.returncode, done.stdout, done.stderr)).startswith("error: bar: process ")


def test_two_processes_that_are_asked_to_end_save_first(workspace: Path):
    process = start_stage("train", "advpose", folder=workspace)
    once_saved(process, workspace)
    process.terminate()
    status, _, err = ended(process, within=30)
    assert status == 1
    assert "Traceback" not in err
    assert err.count("interrupted; the same command goes on from here") == 1
    assert "ended by SIGTERM" in err


# --- two machines ---


def machines(folders: list[Path]) -> list[subprocess.Popen]:
    """A torchrun in each folder, which know of each other by an address alone, as on machines with disks of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        "--nproc-per-node=1",
        f"--nnodes={len(folders)}",
        "--master-addr=127.0.0.1",
        f"--master-port={port}",
    ]
    return [
        torchrun(*words, f"--node-rank={rank}", "--module", "stages.train", "advpose", folder=folder)
        for rank, folder in enumerate(folders)
    ]


def test_two_machines_train_together_and_go_on_from_the_state_that_the_first_has(
    params: Params, prepared: Path, prepared_coco: Path, workspace: Path, tmp_path: Path
):
    other = make_workspace(tmp_path / "two", params, prepared, prepared_coco)
    shutil.copy(workspace / "params.yaml", other)
    first, second = machines([workspace, other])
    once_saved(first, workspace)
    process_of_rank(second, 1).kill()
    for process in (first, second):
        status, _, err = ended(process, within=30)
        assert status == 1
        assert ("process 0 lost its connection to another process, and ends" in err) == (process is first)

    step = end_soon(workspace)
    shutil.copy(workspace / "params.yaml", other)
    first, second = machines([workspace, other])
    for process in (first, second):
        status, out, err = ended(process, within=200)
        assert status == 0, err
        assert (f"goes on from step {step:,} of" in out) == (process is first)
    assert load_weights(workspace / "models/advpose/last.pt").task == "advpose"
    assert not (other / "models").exists()
    assert not (other / "checkpoints").exists()
