"""Killed anywhere, nothing lost: real processes, real SIGKILL, all bits those of an undisturbed run."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import (
    ROOT,
    latest_checkpoint,
    user_error,
    wait_until,
    with_values,
    write_given_weights,
    write_params_file,
)

from pose.cli import run
from pose.experiments.subprocess_run import Attempt, SubprocessRun, repeated_steps
from pose.experiments.verify import compare, verify
from pose.io.errors import UserError
from pose.io.schema import read_yaml
from pose.io.torch_file import save_torch
from pose.params import Params, load_params
from pose.training.checkpoint import load_checkpoint
from pose.training.trainer import train

EVERY, STEPS = 2, 12


def create(folder: Path, params: Params, task: str, prepared: Path) -> SubprocessRun:
    """A run of which a checkpoint is written at every second step, and when it ends."""
    changes = {"train.processes": 1, "train.checkpoint_every": EVERY, "multi.thresholds.tune": False}
    changes |= {f"tasks.{task}.{key}": 100 for key in ("epochs", "validate_every")}
    return SubprocessRun.create(folder, task, STEPS, prepared, with_values(params, changes))


def train_here(run: SubprocessRun) -> list[int]:
    """Train the rest of a run in this process; the steps that it took."""
    steps: list[int] = []
    params, settings = load_params(run.folder / "params.yaml"), {"prepared": run.prepared, "max_steps": STEPS}
    train(params, run.task, folder=run.folder, on_step=lambda step, _: steps.append(step), **settings)
    return steps


@pytest.fixture(scope="module")
def undisturbed(params: Params, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> SubprocessRun:
    """A run of advpose that nothing disturbed."""
    run = create(tmp_path_factory.mktemp("runs") / "undisturbed", params, "advpose", prepared)
    assert train_here(run) == list(range(1, STEPS + 1))
    return run


@pytest.mark.slow
@pytest.mark.parametrize("task", ["hgpose", "hgpose-ae"])  # the others: below
def test_a_run_that_is_killed_ends_with_the_bits_of_one_that_is_not(
    params, prepared, prepared_coco, tmp_path, task
):
    source = prepared_coco if task == "hgpose-ae" else prepared
    one, killed = (create(tmp_path / name, params, task, source) for name in ("one", "killed"))
    train_here(one)
    with killed.process() as process:
        wait_until(lambda: process.poll() is not None or max(killed.steps_done(), default=0) >= 5)
        process.kill()
        assert process.wait() == -9, (killed.folder / "log.txt").read_text()
    done = killed.steps_done()
    rest = train_here(killed)
    assert done == list(range(1, len(done) + 1))
    assert len(done) - EVERY < rest[0] <= len(done) + 1
    assert compare(one, {"killed": killed})
    assert not list(killed.folder.rglob(".[0-9]*.*")), "left half written"


# Put where Python imports it by itself as it starts: ends the process at the third call of os.replace of
# which the condition holds.
DEADLY = """
import os, pathlib, signal
replace, marks = os.replace, pathlib.Path({marks!r})
def deadly(one, other):
    if {condition}:
        marks.touch(exist_ok=True)
        marks.write_text(marks.read_text() + "x")
        if len(marks.read_text()) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    return replace(one, other)
os.replace = deadly
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "condition",
    [
        "str(other).endswith('previous.pt')",  # the new checkpoint is on the disk under another name
        "str(one).endswith('-latest.pt')",  # the old one has made room, the new one has no name yet
    ],
    ids=["before the old checkpoint is put aside", "before the new checkpoint gets its name"],
)
def test_a_kill_between_the_writing_and_the_naming_of_a_checkpoint_costs_one_interval(
    params, prepared, undisturbed, tmp_path, monkeypatch, condition
):
    killed = create(tmp_path / "killed", params, "advpose", prepared)
    (tmp_path / "deadly").mkdir()
    deadly = DEADLY.format(marks=str(tmp_path / "marks"), condition=condition)
    (tmp_path / "deadly/sitecustomize.py").write_text(deadly)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "deadly"))
    with killed.process() as process:
        assert process.wait(timeout=300) == -9, (killed.folder / "log.txt").read_text()
    done = killed.steps_done()
    files = killed.folder.glob("checkpoints/advpose/*/[lp]*.pt")
    saved = max(load_checkpoint(path).state["step"] for path in files)
    assert max(done) - saved <= EVERY
    assert train_here(killed) == list(range(saved + 1, STEPS + 1))
    assert compare(undisturbed, {"killed": killed})


@pytest.mark.slow
def test_a_difference_of_one_bit_is_found(undisturbed, tmp_path, capsys):
    other = replace(undisturbed, folder=tmp_path / "other")
    shutil.copytree(undisturbed.folder, other.folder)
    assert compare(undisturbed, {"other": other})
    path = latest_checkpoint(other.folder, "advpose")
    content = torch.load(path, weights_only=True)
    name = next(name for name, tensor in content["net"].items() if name.endswith("bias"))
    content["net"][name].view(torch.int32)[0] ^= 1
    save_torch(path, content)
    capsys.readouterr()
    assert not compare(undisturbed, {"other": other})
    assert f"1 differ: {name}" in capsys.readouterr().out
    history = other.folder / "metrics/plots/advpose/train.csv"
    history.write_text(history.read_text().replace("12,", "13,", 1))
    assert not compare(undisturbed, {"other": other})
    assert "differ: metrics/plots/advpose/train.csv" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.soak
def test_verify_finds_equal_bits_for_other_workers_and_after_five_kills(
    params, prepared_coco, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pose.experiments.verify.WORKERS", (0, 2))
    params = with_values(params, {"train.processes": 1, "tasks.advpose-ae.epochs": 100})
    write_params_file(tmp_path, params.model_dump())
    assert verify("advpose-ae", steps=24, kills=5, prepared=prepared_coco, keep=tmp_path / "kept")
    printed = capsys.readouterr().out
    assert "advpose-ae: 24 steps, a checkpoint every 2, on the CPU" in printed
    [k_t] = [line.split() for line in printed.splitlines() if line.strip().startswith("k_t")]
    assert k_t == ["k_t", "1", *["equal"] * 3]
    assert "differ" not in printed
    kills = "5 interruptions (1 of all processes, 1 while a checkpoint was written, 1 of DVC alone, "
    assert kills in printed
    assert "Traceback" not in (tmp_path / "kept/interrupted/log.txt").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "kept"}


@pytest.mark.slow
def test_verify_finds_equal_bits_of_a_run_that_begins_from_given_weights(
    params, prepared, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pose.experiments.verify.WORKERS", ())
    given = write_given_weights(params, "hgpose", tmp_path, joints=("r_knee", "tail"))
    init = {"weights": given.name, "frozen": 0.5, "lr_scale": 0.5}
    changes = {"train.processes": 1, "tasks.hgpose.epochs": 100, "tasks.hgpose.init": init}
    params = with_values(params, changes)
    write_params_file(tmp_path, params.model_dump())
    assert verify("hgpose", steps=12, kills=1, prepared=prepared)
    assert "differ" not in capsys.readouterr().out


def test_verify_refuses_what_cannot_be_trained_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_params_file(tmp_path, load_params(ROOT / "params.yaml").model_dump())
    cases = {
        ("dance",): "params.yaml: no task 'dance'",
        ("hgpose", "--prepared", "nowhere.h5"): "nowhere.h5: no such file",
        ("hgpose", "--set", "train.wokers=2"): "unknown key train.wokers",
        ("hgpose", "--set", "lr=fast"): "lr: found 'fast'",
        ("hgpose", "--set", "lr=["): "--set: lr=[: not valid YAML",
        ("hgpose", "--set", "lr"): "argument --set: found 'lr', expected KEY=VALUE",
        ("hgpose", "--set", "=1"): "argument --set: found '=1', expected KEY=VALUE",
        ("hgpose", "--set", "train.checkpoint_every=3"): "--set: found train.checkpoint_every, expected",
        ("hgpose", "--steps", "0"): "argument --steps: found '0', expected a whole number of at least 1",
        ("hgpose", "--batch", "many"): "argument --batch: found 'many', expected a whole number of at",
    }
    for words, message in cases.items():
        with pytest.raises((UserError, SystemExit)) as refused:
            run(["verify", *words])
        line = capsys.readouterr().err if isinstance(refused.value, SystemExit) else str(refused.value)
        assert message in line.strip().splitlines()[-1], words
        assert {path.name for path in tmp_path.iterdir()} == {"params.yaml"}


def test_a_stage_of_dvc_runs_what_was_to_be_run_whatever_the_paths_hold(params, tmp_path):
    prepared = tmp_path / "a: 'set' – ünï.h5"
    run = SubprocessRun.create(tmp_path / "r", "hgpose", STEPS, prepared, params, under_dvc=True)
    stage = read_yaml(run.folder / "dvc.yaml")["stages"]["train"]
    assert shlex.split(stage["cmd"]) == run._command


def test_what_ended_an_attempt_is_not_taken_for_what_ended_the_next(params, prepared, tmp_path):
    run = SubprocessRun.create(tmp_path / "r", "hgpose", STEPS, prepared, params)
    (run.folder / "log.txt").write_text("error: process 1 of 2 was ended by SIGKILL\n")
    (run.folder / "params.yaml").write_text("lr: fast")
    with user_error(r"training ended with status 1: params\.yaml"):
        run.run()


def test_repeated_steps_are_counted_from_where_the_attempt_before_had_come():
    attempts = [Attempt(0, 5, False), Attempt(4, 9, True), Attempt(6, 12, False)]
    assert repeated_steps(attempts) == 3
