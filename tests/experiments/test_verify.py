"""Killed anywhere, nothing lost.

Real processes, real SIGKILL, all state compared bit by bit with a run that nothing disturbed.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import ROOT, with_values, write_params_file

from pose.cli import run
from pose.experiments.subprocess_run import SubprocessRun, repeated_steps
from pose.experiments.verify import compare, verify
from pose.io.errors import UserError
from pose.models.weights import load_checkpoint, save_torch
from pose.params import Params, load_params
from pose.training.checkpoint import CheckpointManager

EVERY, STEPS, KILLS = 2, 24, 5


def brief(params: Params, task: str) -> Params:
    """Of a task that no checkpoint but those of every so many steps is written of before the last step."""
    changes = {
        "train.processes": 1,
        "train.checkpoint_every": EVERY,
        "train.validate_every": 100,
        "multi.thresholds.tune": False,
    }
    return with_values(params, changes | {f"tasks.{task}.epochs": 100})


def source(task: str, prepared: Path, prepared_coco: Path) -> Path:
    return prepared_coco if task.endswith("-ae") else prepared


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", ["hgpose", "advpose", "hgpose-ae"]
)  # advpose-ae: below, by `pose verify` itself
def test_a_run_that_is_killed_five_times_ends_with_the_bits_of_one_that_is_not(
    params: Params, prepared: Path, prepared_coco: Path, tmp_path: Path, task: str
):
    data = source(task, prepared, prepared_coco)
    whole, killed = (
        SubprocessRun.fresh(tmp_path / name, task, STEPS, data, brief(params, task))
        for name in ("whole", "killed")
    )
    whole.run()
    lives = killed.run_through(KILLS, EVERY, random.Random(task))
    assert len(lives) == KILLS + 1
    assert repeated_steps(lives) <= EVERY
    assert [life.began for life in lives] == sorted(life.began for life in lives)
    assert lives[-1].began > 0, "started over"
    assert lives[-1].reached == STEPS
    assert compare(whole, {"killed": killed})
    assert sorted(set(killed.steps_done())) == list(range(1, STEPS + 1))
    assert not list(killed.folder.rglob(".[0-9]*.*")), "left half written"


# Put where Python imports it by itself when it starts: ends the process at the third call of os.replace that
# the condition holds of.
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


@pytest.fixture(scope="module")
def undisturbed(params: Params, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> SubprocessRun:
    """Twelve steps of advpose that nothing disturbed."""
    trial = SubprocessRun.fresh(
        tmp_path_factory.mktemp("trial") / "whole", "advpose", 12, prepared, brief(params, "advpose")
    )
    trial.run()
    return trial


@pytest.mark.slow
@pytest.mark.parametrize(
    "condition",
    [
        "str(other).endswith('previous.pt')",  # the new state is on the disk under another name
        "str(one).endswith('.state.pt') and not str(one).endswith('/latest.pt')",  # the old one has made room, the new one is not there yet
    ],
    ids=["before the old state is put aside", "before the new state gets its name"],
)
def test_a_kill_between_the_writing_and_the_naming_of_a_state_costs_one_interval(
    params: Params,
    prepared: Path,
    undisturbed: SubprocessRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    condition: str,
):
    killed = SubprocessRun.fresh(
        tmp_path / "killed", "advpose", undisturbed.steps, prepared, brief(params, "advpose")
    )
    (tmp_path / "deadly").mkdir()
    (tmp_path / "deadly/sitecustomize.py").write_text(
        DEADLY.format(marks=str(tmp_path / "marks"), condition=condition)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "deadly"))
    with killed.process() as process:
        assert process.wait(timeout=120) == -9
    states = CheckpointManager(killed.folder / "checkpoints/advpose")
    saved = [
        load_checkpoint(path)["progress"]["step"] for path in (states.newest, states.before) if path.exists()
    ]
    done = killed.steps_done()
    assert max(done) - max(saved) <= EVERY
    killed.run()
    assert killed.steps_done()[len(done)] == max(saved) + 1
    assert compare(undisturbed, {"killed": killed})


@pytest.mark.slow
def test_a_difference_of_one_bit_is_found(
    undisturbed: SubprocessRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = replace(undisturbed, folder=tmp_path / "other")
    shutil.copytree(undisturbed.folder, other.folder)
    assert compare(undisturbed, {"other": other})
    path = CheckpointManager(other.folder / "checkpoints/advpose").newest
    state = load_checkpoint(path)
    name = next(
        name for name, tensor in state["net"].items() if tensor.dtype == torch.float32 and tensor.dim() == 1
    )
    state["net"][name].view(torch.int32)[0] ^= 1
    save_torch(path, state)
    capsys.readouterr()
    assert not compare(undisturbed, {"other": other})
    assert f"1 differ: {name}" in capsys.readouterr().out
    history = other.folder / "metrics/plots/advpose/train.csv"
    history.write_text(history.read_text().replace("12,", "13,", 1))
    assert not compare(undisturbed, {"other": other})
    assert "differ: metrics/plots/advpose/train.csv" in capsys.readouterr().out


@pytest.mark.slow
def test_verify_finds_equal_bits_for_other_workers_and_after_kills(
    params: Params,
    prepared_coco: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    write_params_file(
        tmp_path, with_values(params, {"train.processes": 1, "tasks.advpose-ae.epochs": 100}).model_dump()
    )
    assert verify("advpose-ae", steps=STEPS, kills=KILLS, prepared=prepared_coco)
    printed = capsys.readouterr().out
    assert f"advpose-ae: {STEPS} steps, a state every {EVERY}, on the CPU" in printed
    assert [line.split() for line in printed.splitlines() if line.strip().startswith("k_t")] == [
        ["k_t", "1", *["equal"] * 4]
    ]
    assert "differ" not in printed
    assert f"{KILLS} kills" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml"}


def test_verify_refuses_what_cannot_be_trained_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    write_params_file(tmp_path, load_params(ROOT / "params.yaml").model_dump())
    cases = {
        ("dance",): "params.yaml: no task 'dance'",
        ("hgpose", "--prepared", "nowhere.h5"): "nowhere.h5: no such file",
        ("hgpose", "--set", "train.wokers=2"): "unknown key train.wokers",
        ("hgpose", "--set", "lr=fast"): "lr: found 'fast'",
        ("hgpose", "--set", "lr=["): "--set: lr=[: not valid YAML",
        ("hgpose", "--steps", "0"): "steps",
    }
    for words, message in cases.items():
        with pytest.raises((UserError, SystemExit)) as refused:
            run(["verify", *words])
        said = capsys.readouterr().err if isinstance(refused.value, SystemExit) else str(refused.value)
        assert message in said.strip().splitlines()[-1], words
        assert {path.name for path in tmp_path.iterdir()} == {"params.yaml"}
