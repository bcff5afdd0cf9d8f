"""Training as the stage runs it: outputs, resume, locks, wrong inputs. Real processes, real files, real MLflow."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT
from ruamel.yaml import YAML

from pose.checkpoint import fill, load_state, load_weights, save_atomically, save_weights, weights_of
from pose.errors import UserError
from pose.infer import Predictor, load_model
from pose.params import Params
from pose.task import build_task

CPU = torch.device("cpu")


@pytest.fixture
def workspace(params: Params, prepared: Path, tmp_path: Path) -> Path:
    """A folder with params.yaml and the prepared set, in one process."""
    return make_workspace(tmp_path, params, prepared)


def make_workspace(folder: Path, params: Params, prepared: Path) -> Path:
    (folder / "data" / "prepared").mkdir(parents=True)
    (folder / "data" / "prepared" / "lsp_mpii.h5").symlink_to(prepared)
    edit(folder, params.model_dump() | {"train": params.train.model_dump() | {"processes": 1}})
    return folder


def edit(folder: Path, values: dict) -> None:
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(values, file)


def change(folder: Path, key: str, value: object) -> None:
    values = YAML(typ="safe").load((folder / "params.yaml").read_text())
    *path, last = key.split(".")
    inner = values
    for part in path:
        inner = inner[part]
    inner[last] = value
    edit(folder, values)


def start(stage: str, *args: str, folder: Path) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DVC"))}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", f"stages.{stage}", *args]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(stage: str, *args: str, folder: Path) -> tuple[int, str, str]:
    process = start(stage, *args, folder=folder)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def only_error(result: tuple[int, str, str]) -> str:
    status, _, err = result
    assert status == 1
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.slow
def test_a_run_writes_weights_history_and_metrics_and_twice_the_same_bits(params: Params, prepared: Path, tmp_path: Path):
    folders = [make_workspace(tmp_path / name, params, prepared) for name in ("a", "b")]
    for folder in folders:
        status, out, err = run("train", "hgpose", folder=folder)
        assert status == 0, err
        assert "trained" in out
        status, _, err = run("evaluate", "hgpose", folder=folder)
        assert status == 0, err
    for file in (
        "models/hgpose/last.pt",
        "models/hgpose/best.pt",
        "metrics/hgpose.json",
        "predictions/hgpose.h5",
        "metrics/plots/hgpose/joints.csv",
    ):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes(), file
    history = pd.read_csv(folders[0] / "metrics/plots/hgpose/train.csv")
    assert {"step", "lr", "heatmap", "loss"} <= set(history.columns)
    valid = pd.read_csv(folders[0] / "metrics/plots/hgpose/valid.csv")
    assert len(valid) == params.tasks["hgpose"].epochs
    assert (folders[0] / "mlflow.db").exists()
    assert set(load_state(folders[0] / "checkpoints/hgpose/state.pt")) == {"format", "fingerprint", "net", "optimizer", "progress"}


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_bits(params: Params, prepared: Path, tmp_path: Path):
    whole, killed = (make_workspace(tmp_path / name, params, prepared) for name in ("whole", "killed"))
    for folder in (whole, killed):
        change(folder, "tasks.hgpose.epochs", 6)
    assert run("train", "hgpose", folder=whole)[0] == 0
    process = start("train", "hgpose", folder=killed)
    state = killed / "checkpoints/hgpose/state.pt"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    step = load_state(state)["progress"]["step"]
    status, out, err = run("train", "hgpose", folder=killed)
    assert status == 0, err
    assert re.search(rf"goes on from step {step} of \d+", out)
    for file in ("models/hgpose/last.pt", "models/hgpose/best.pt", "metrics/plots/hgpose/train.csv"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file


@pytest.mark.slow
def test_being_asked_to_end_saves_first(workspace: Path):
    change(workspace, "tasks.hgpose.epochs", 400)
    process = start("train", "hgpose", folder=workspace)
    state = workspace / "checkpoints/hgpose/state.pt"
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    before = load_state(state)["progress"]["step"]
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted; the same command goes on from here" in err
    assert load_state(state)["progress"]["step"] >= before


@pytest.mark.slow
def test_two_processes_train_together_and_two_writers_do_not(workspace: Path):
    change(workspace, "train.processes", 2)
    change(workspace, "tasks.hgpose.epochs", 60)
    process = start("train", "hgpose", folder=workspace)
    deadline = time.monotonic() + 120
    while not (workspace / "checkpoints/hgpose/state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    change(workspace, "train.processes", 1)
    assert "is writing there already" in only_error(run("train", "hgpose", folder=workspace))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err


@pytest.mark.slow
def test_a_state_of_another_run_is_not_continued(workspace: Path):
    assert run("train", "hgpose", folder=workspace)[0] == 0
    change(workspace, "lr", 0.001)
    status, out, _ = run("train", "hgpose", folder=workspace)
    assert status == 0
    assert "starts afresh" in out
    assert "lr was 0.0075, is 0.001" in out


@pytest.mark.slow
def test_mistakes_in_params_are_one_line(workspace: Path):
    change(workspace, "lr", "fast")
    assert only_error(run("train", "hgpose", folder=workspace)) == "error: params.yaml: lr: found 'fast', input should be a valid number"
    change(workspace, "lr", 0.001)
    assert "no task 'dance'" in only_error(run("train", "dance", folder=workspace))
    change(workspace, "tasks.hgpose.batch", 1000)
    assert "expected at least tasks.hgpose.batch = 1000" in only_error(run("train", "hgpose", folder=workspace))
    assert "models/hgpose/last.pt: no such file" in only_error(run("evaluate", "hgpose", folder=workspace))


def test_saving_leaves_no_half_file_and_no_other_one(tmp_path: Path):
    save_atomically(tmp_path / "x.pt", {"format": "a"})
    with pytest.raises(AttributeError):
        save_atomically(tmp_path / "x.pt", {"not": lambda: None})
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    assert torch.load(tmp_path / "x.pt", weights_only=True) == {"format": "a"}


def test_weights_for_use_come_back_as_the_same_network(params: Params, tmp_path: Path):
    task = build_task(params, "hgpose", device=CPU)
    save_weights(tmp_path / "last.pt", weights_of(task))
    model = load_model(tmp_path / "last.pt", "cpu")
    image = torch.rand(1, 3, 64, 64)
    assert torch.allclose(model(image), task.net.eval()(image), atol=1e-5)  # the layouts in memory differ


@pytest.mark.parametrize("content", [b"", b"PK not a zip", None], ids=["empty", "damaged", "another format"])
def test_something_else_than_weights_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "weights.pt"
    if content is None:
        torch.save({"format": "resume"}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.pt") as error:
        load_weights(path)
    assert "\n" not in str(error.value)


def test_weights_with_an_entry_missing_name_it(tmp_path: Path):
    torch.save({"format": "pose-weights-2", "task": "hgpose"}, tmp_path / "odd.pt")
    with pytest.raises(UserError, match=r"odd\.pt: no entry 'problem', expected weights for use"):
        load_weights(tmp_path / "odd.pt")


def test_truncated_weights_are_named(params: Params, tmp_path: Path):
    path = tmp_path / "last.pt"
    save_weights(path, weights_of(build_task(params, "hgpose", device=CPU)))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"last\.pt: cannot be read"):
        Predictor.load(path)


def test_weights_of_another_architecture_name_the_tensor(params: Params):
    net = build_task(params, "hgpose", device=CPU).net
    tensors = dict(net.state_dict())
    name = next(iter(tensors))
    with pytest.raises(UserError, match=rf"x\.pt: of another architecture: tensor {re.escape(name)}: found \(1,\), expected"):
        fill(net, tensors | {name: torch.zeros(1)}, "x.pt")
    with pytest.raises(UserError, match="tensor more is not part of the network"):
        fill(net, tensors | {"more": torch.zeros(1)}, "x.pt")
