"""Several processes that train one network learn what one would, and end together. Real torchrun, gloo."""

import json
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from distributed_worker import CASES, TOTAL_BATCH, play, tensors
from helpers import (
    ROOT,
    end_of,
    enter_folder,
    free_port,
    make_workspace,
    only_error,
    run_python,
    set_param,
    start_process,
    start_stage,
    user_error,
    wait_until,
    with_values,
    write_given_weights,
    write_params_file,
)

from pose.data.image_set import ImageSet
from pose.data.loader import ResumableBatchSampler
from pose.data.prepare.coco import prepare_coco
from pose.io.errors import UserError
from pose.io.files import file_hash
from pose.models.weights import load_weights
from pose.params import Params, load_params
from pose.tasks.multi import MultiData
from pose.training.checkpoint import load_checkpoint
from pose.training.distributed import LAUNCHED, Ranks, is_first_process, process_group
from pose.training.trainer import train

WORKER = ROOT / "tests" / "distributed_worker.py"
TRAIN = ("--module", "stages.train", "advpose")


def torchrun(*words: str, folder: Path) -> subprocess.Popen:
    return start_process("torch.distributed.run", *words, folder=folder)


def machines(folders: list[Path], *command: str, processes: int = 1) -> list[subprocess.Popen]:
    """A torchrun in each folder, as on machines with disks of their own that know one address."""
    words = [f"--nproc-per-node={processes}", f"--nnodes={len(folders)}", "--master-addr=127.0.0.1"]
    words.append(f"--master-port={free_port()}")
    return [
        torchrun(*words, f"--node-rank={rank}", *command, folder=folder)
        for rank, folder in enumerate(folders)
    ]


def run_worker(processes: int, work: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """What each rank has found."""
    words = ["--standalone", f"--nproc-per-node={processes}", *options, str(WORKER), work, str(folder)]
    status, _, err = end_of(torchrun(*words, folder=folder))
    assert status == 0, err
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes)]


def test_a_process_without_a_gpu_of_its_own_is_named(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with user_error("found process 2 on a machine of 1 GPUs"), process_group(120):
        pass


def test_a_variable_of_torchrun_that_is_left_over_makes_nobody_wait(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "1")
    with process_group(120) as ranks:
        assert (ranks, is_first_process()) == (Ranks(), True)


# --- the same as one process ---


@dataclass(frozen=True)
class Played:
    """Parameters in which every case counts, and what each of two ranks found."""

    params: Params
    of_rank: list[dict[str, Any]]
    folder: Path


def with_every_second_image_empty(params: Params, drawn_root: Path, folder: Path) -> Path:
    """A prepared folder in which half of the images to train on show nobody."""
    raw = Path(shutil.copytree(drawn_root / "coco", folder / "raw" / "coco"))
    [path] = raw.glob("annotations/person_keypoints_train*.json")
    content = json.loads(path.read_text())
    empty = {image["id"] for image in content["images"][::2]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in empty]
    path.write_text(json.dumps(content))
    anybody = with_values(params, {"prepare.coco.min_people": {"train": 0, "validation": 1}}).prepare.coco
    prepare_coco(raw.parent, folder / "coco", params=anybody, seed=params.seed, workers=1)
    return folder / "coco"


@pytest.fixture(scope="module")
def played(
    params: Params, prepared: Path, drawn_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Played:
    """Two ranks play every case; they train, half of the images empty, and each comes late at random."""
    folder = tmp_path_factory.mktemp("played")
    changes: dict[str, object] = {
        "train.precision": "float32",
        "lr": 1e-4,  # at a higher one tiny networks are chaotic: rounding grows tenfold with every step
        "tasks.advpose-ae.epochs": 15,
        **{f"tasks.{task}.validate_every": 5 for task in params.tasks},
        "multi.thresholds.tune": True,
    }
    for task in ("advpose", "advpose-ae"):
        adversary = {"start_fraction": 0.0, "weight": 1.0, "balance_rate": 0.1, "gamma": 1.5}
        changes |= {f"tasks.{task}.adversary.{key}": value for key, value in adversary.items()}
    init = {"weights": str(write_given_weights(params, "hgpose", folder, joints=("r_knee", "tail")))}
    fine_tuned = params.task("hgpose").model_dump() | {"init": init | {"frozen": 0.5, "lr_scale": 0.5}}
    params = with_values(params, changes | {"tasks.fine-tuned": fine_tuned})
    images = with_every_second_image_empty(params, drawn_root, folder)
    make_workspace(folder, params, prepared, images, store=False)
    return Played(params, run_worker(2, "play", folder), folder)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)), ids=["-".join(case) for case in CASES])
def test_two_processes_learn_what_one_learns_from_the_whole_batch(played, case):
    task, norm = CASES[case]
    first, second = (tensors(rank["states"][case]) for rank in played.of_rank)
    assert all(torch.equal(first[path], second[path]) for path in first), "the two processes have gone apart"
    alone = tensors(play(played.params, task, norm, Ranks()))
    assert first.keys() == alone.keys()
    for path, expected in alone.items():
        # Means of squared gradients are small, and are to agree as well.
        floor = 1e-15 if "optimizer" in path else 1e-9
        assert float((first[path] - expected).abs().max()) <= 1e-9 * float(expected.abs().max()) + floor, path
    if "adv" in task:
        assert 0.01 < alone["/adversary/k"] < 0.99, "k_t must move, else nothing is tested"


@pytest.mark.slow
def test_all_ranks_know_what_the_first_has_read_and_what_differs_and_which_loss_is_no_number(played):
    assert [rank["read"] for rank in played.of_rank] == [0, 0]
    found = "lr: found 1 in process 1 and 0 in process 0, expected the same on all machines"
    assert [rank["different"] for rank in played.of_rank] == [found, found]
    first, second = (rank["not finite"] for rank in played.of_rank)
    assert first == second
    assert first.startswith(("hgpose: heatmap is ", "hgpose: weights are not finite after step "))
    assert first.count("(row ") == 4, "the samples of both ranks"


@pytest.mark.slow
def test_processes_that_come_late_with_nobody_in_their_images_do_not_hang(played):
    data = MultiData(ImageSet(played.folder / "coco"), played.params.multi, 0)
    rows, nobody = data.rows("train"), []
    steps = len(pd.read_csv(played.folder / "metrics/plots/advpose-ae/train.csv")) * 20
    for rank in (0, 1):
        sampler = ResumableBatchSampler(
            len(rows), TOTAL_BATCH, seed=played.params.seed, start=0, stop=steps, rank=rank, ranks=2
        )
        empty = ~np.isin(rows, data.images.row_N)
        nobody.append(np.array([empty[[position for _, position in batch]].all() for batch in sampler]))
    assert (nobody[0] ^ nobody[1]).sum() > steps / 20, "one has somebody, the other nobody"
    first, second = (rank["late"] for rank in played.of_rank)
    assert first == second
    assert 0 <= first["AP"] <= 1
    assert load_weights(played.folder / "models/advpose-ae/last.pt").provenance["processes"] == 2


@pytest.mark.slow
def test_the_prepared_data_is_hashed_by_the_first_process_of_a_machine_alone(played):
    first, second = (rank["hashed"] for rank in played.of_rank)
    files = ["coco.h5", "annotations/train.json", "annotations/validation.json"]
    assert first[:3] == [Path(name).name for name in files]
    assert second == []
    weights = load_weights(played.folder / "models/advpose-ae/last.pt")
    folder = played.folder / "data/prepared/coco"
    assert weights.provenance["data"] == file_hash(*(folder / name for name in files))


@pytest.mark.slow
def test_what_is_done_once_per_machine_is_done_by_the_first_of_its_processes(tmp_path):
    started = machines([tmp_path, tmp_path], str(WORKER), "machine", str(tmp_path), processes=2)
    for process in started:
        status, _, err = end_of(process)
        assert status == 0, err
    assert [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(4)] == [0, 0, 2, 2]


@pytest.mark.slow
def test_three_processes_have_the_same_gradients_of_a_step_whichever_of_a_start_it_is(params, tmp_path):
    wider = with_values(params, {"tasks.hgpose.network.features": 16})
    write_params_file(tmp_path, wider.model_dump())
    assert run_worker(3, "repeat", tmp_path) == 3 * [{"first": True, "other": False}]


@pytest.mark.slow
def test_processes_may_train_a_second_time_though_one_is_late(tmp_path):
    assert run_worker(2, "again", tmp_path) == 2 * [[0.5, 0.5]]


@pytest.mark.slow
def test_processes_that_torchrun_starts_anew_do_not_look_for_those_before(tmp_path):
    assert run_worker(2, "restart", tmp_path, "--max-restarts=1") == 2 * [("1", 0.5)]


@pytest.mark.slow
def test_a_layer_that_is_not_used_is_named(params, prepared, tmp_path):
    write_params_file(tmp_path, params.model_dump())
    (tmp_path / "data/prepared").mkdir(parents=True)
    shutil.copy(prepared, tmp_path / "data/prepared/lsp_mpii.h5")
    found = "tasks.hgpose.network: found weights without a gradient: idle.weight, idle.bias, expected none"
    assert all(line.startswith(found) for line in run_worker(2, "idle", tmp_path))


# --- ending together ---


@pytest.mark.slow
def test_the_process_that_ended_by_itself_is_named_and_not_the_one_that_lost_it(tmp_path):
    code = "from pose.training.launch import launch; launch(2, 'distributed_worker', 'fail', '.')"
    code = f"from pose.io.command import run_command; run_command(exec, {code!r})"
    done = run_python(code, folder=tmp_path, PYTHONPATH=f"{ROOT}:{WORKER.parent}")
    assert done.returncode == 1
    assert "the cause" in done.stderr
    assert done.stderr.endswith("process 1 of 2 ended with status 1\n")


def process_of_rank(process: subprocess.Popen, rank: int) -> psutil.Process:
    """That one of the processes which torchrun has started."""
    children = psutil.Process(process.pid).children(recursive=True)
    [found] = [child for child in children if child.environ().get("RANK") == str(rank)]
    return found


def saved_step(folder: Path) -> int:
    """Of the latest checkpoint that has its name: a save renames `latest.pt`, then the new file."""
    for name in ("latest.pt", "previous.pt"):
        for path in (folder / "checkpoints" / "advpose").glob(f"*/{name}"):
            with suppress(UserError):
                return load_checkpoint(path).state["step"]
    return 0


def wait_for_checkpoint(process: subprocess.Popen, folder: Path, *, after: int = 0) -> None:
    def is_saved() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return saved_step(folder) > after

    wait_until(is_saved)


def end_soon(folder: Path) -> int:
    """Let the run end with the epoch after the one that it is in; the step that it is at."""
    step = saved_step(folder)
    set_param(folder, "tasks.advpose.epochs", step // 11 + 2)
    return step


@pytest.fixture
def long(params: Params, prepared: Path, prepared_coco: Path, tmp_path: Path) -> Path:
    """A folder in which two processes would train advpose for long."""
    changes = {"tasks.advpose.epochs": 400, "tasks.advpose.adversary.start_fraction": 0.0}
    folder = make_workspace(tmp_path / "one", with_values(params, changes), prepared, prepared_coco)
    set_param(folder, "train.processes", 2)
    return folder


@pytest.mark.slow
def test_two_processes_save_when_asked_to_end_and_end_when_one_is_killed_and_one_process_resumes(
    long, monkeypatch, caplog
):
    process = start_stage("train", "advpose", folder=long)
    wait_for_checkpoint(process, long)
    process.terminate()
    status, _, err = end_of(process)
    assert status == 1
    assert "Traceback" not in err
    assert err.count("interrupted; the same command resumes from here") == 1
    assert "ended by SIGTERM" in err

    step = saved_step(long)
    process = start_stage("train", "advpose", folder=long)
    wait_for_checkpoint(process, long, after=step)
    process_of_rank(process, 0).kill()
    result = end_of(process)
    assert only_error(result) == "error: pose.cli train advpose: process 0 of 2 was ended by SIGKILL"
    assert f"resuming from step {step:,} of" in result[2]

    step = end_soon(long)
    enter_folder(long, monkeypatch)
    train(load_params(), "advpose")
    assert f"resuming from step {step:,} of" in caplog.text
    assert "processes was 2, is 1: batches are normalised by 4 at a time from here on" in caplog.text


# --- two machines ---


def train_on_both(first: Path, second: Path) -> list[str]:
    """What two machines print that train together to the end."""
    shutil.copy(first / "params.yaml", second)
    ends = [end_of(process) for process in machines([first, second], *TRAIN)]
    assert [status for status, _, _ in ends] == [0, 0], ends
    return [err for _, _, err in ends]


@pytest.mark.slow
def test_two_machines_train_together_and_resume_from_the_checkpoint_that_the_first_has(
    params, prepared, prepared_coco, long, tmp_path
):
    other = make_workspace(tmp_path / "two", params, prepared, prepared_coco, store=False)
    shutil.copy(long / "params.yaml", other)
    first, second = machines([long, other], *TRAIN)
    wait_for_checkpoint(first, long)
    process_of_rank(second, 1).kill()
    for process in (first, second):
        status, _, err = end_of(process)
        assert status == 1
        assert ("process 0 lost its connection to another process, and ends" in err) == (process is first)

    step = end_soon(long)
    of_first, of_second = train_on_both(long, other)
    assert f"resuming from step {step:,} of" in of_first
    assert "resuming" not in of_second
    assert load_weights(long / "models/advpose/last.pt").task == "advpose"
    assert not (other / "models").exists()
    assert not (other / "checkpoints").exists()

    # Fewer epochs than the finished run: both begin anew, though one alone knows that it has finished.
    set_param(long, "tasks.advpose.epochs", 1)
    of_first, of_second = train_on_both(long, other)
    assert "starting from scratch: " in of_first
    assert "starting" not in of_second
