"""Checkpoints: the latest undamaged one of the same run, or a reason why there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, user_error, with_values
from raw_sets import own_spec

from pose.tasks.fingerprint import fingerprint
from pose.training import code_version
from pose.training.checkpoint import CheckpointManager, load_checkpoint
from pose.training.environment import environment, merge_environments

SHAPE = {"lr": 0.1, "seed": 1, "data": "abc"}


def save(checkpoints: CheckpointManager, step: int) -> None:
    rest: dict[str, Any] = {"environment": {}, "optimizer": {}}
    rest |= dict.fromkeys(("adversary", "average", "best"))
    checkpoints.save(net={"weight": torch.full((1000,), float(step))}, state={"step": step}, **rest)


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointManager:
    """Two checkpoints of one run, after steps 1 and 2."""
    checkpoints = CheckpointManager(tmp_path, "single", SHAPE)
    for step in (1, 2):
        save(checkpoints, step)
    return checkpoints


def loaded(checkpoints: CheckpointManager) -> int:
    """The step of the checkpoint that is loaded, 0 for none."""
    found = checkpoints.load()
    return found[1].state["step"] if found else 0


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[int(0.6 * len(data))] ^= 1
    path.write_bytes(data)


def test_the_latest_is_loaded_and_the_previous_is_kept(checkpoints, caplog):
    assert loaded(checkpoints) == 2
    assert load_checkpoint(checkpoints.previous).state["step"] == 1
    assert caplog.messages == []


def test_one_flipped_bit_of_a_weight_is_noticed_and_the_previous_checkpoint_is_used(checkpoints, caplog):
    flip_bit(checkpoints.latest)
    weight = torch.load(checkpoints.latest, weights_only=True)["net"]["weight"]
    assert weight.ne(2).sum() == 1, "torch itself does not notice"
    assert loaded(checkpoints) == 1
    [line] = caplog.messages
    assert line.startswith(f"skipping a checkpoint: {checkpoints.latest}: ")
    save(checkpoints, 2)
    assert loaded(checkpoints) == 2
    assert load_checkpoint(checkpoints.previous).state["step"] == 1, "the damaged one took its place"


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_checkpoint_that_is_cut_short_is_noticed(checkpoints, keep, caplog):
    data = checkpoints.latest.read_bytes()
    checkpoints.latest.write_bytes(data[: int(keep * len(data))])
    assert loaded(checkpoints) == 1
    assert len(caplog.messages) == 1


def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(checkpoints):
    data = checkpoints.latest.read_bytes()
    checkpoints.latest.unlink()
    checkpoints.latest.mkdir()  # as for a lack of permissions, which root does not know
    with user_error(r"latest\.pt: is a folder"):
        checkpoints.load()
    checkpoints.latest.rmdir()
    checkpoints.latest.write_bytes(data)
    assert loaded(checkpoints) == 2


def test_a_kill_between_the_two_renames_leaves_the_previous_checkpoint(checkpoints):
    checkpoints.latest.rename(checkpoints.previous)
    assert loaded(checkpoints) == 2


def test_where_both_are_damaged_training_starts_from_scratch_and_says_so(checkpoints, caplog):
    flip_bit(checkpoints.latest)
    flip_bit(checkpoints.previous)
    assert loaded(checkpoints) == 0
    assert caplog.messages[-1] == "starting from scratch: no undamaged checkpoint is left"


def test_another_run_begins_beside_one_that_was_interrupted_and_says_in_what_it_differs(checkpoints, caplog):
    other = CheckpointManager(checkpoints.task_folder, "single", SHAPE | {"lr": 0.2, "data": "abd"})
    assert loaded(other) == 0
    found = f"{checkpoints.latest} is of another run: data was 'abc', is 'abd'; and lr"
    assert caplog.messages == [f"starting from scratch: {found}"]
    save(other, 1)
    assert (loaded(checkpoints), loaded(other)) == (2, 1)
    third = CheckpointManager(checkpoints.task_folder, "single", SHAPE | {"lr": 0.3})
    assert loaded(third) == 0
    assert caplog.messages[-1].endswith(f"; 1 more interrupted runs are in {checkpoints.task_folder}")


def test_a_run_that_finished_keeps_its_checkpoints_until_another_one_has(checkpoints, caplog):
    others = [CheckpointManager(checkpoints.task_folder, "single", SHAPE | {"lr": lr}) for lr in (0.2, 0.3)]
    for other in others:
        save(other, 1)
    checkpoints.mark_finished()
    others[0].mark_finished()
    assert not checkpoints.folder.exists()
    assert [loaded(other) for other in others] == [1, 1], "one has finished last, one was interrupted"
    others[0].mark_unfinished()
    others[1].mark_finished()
    assert [loaded(other) for other in others] == [1, 1]


def test_a_checkpoint_of_other_code_is_not_resumed_and_the_folder_is_named(checkpoints, caplog, monkeypatch):
    changed = code_version.code_version("single") | {"pose/keypoints": "0"}
    with monkeypatch.context() as patch:
        patch.setattr("pose.training.checkpoint.code_version", lambda problem: changed)
        assert loaded(checkpoints) == 0
        assert "code of pose/keypoints was" in caplog.messages[0]
        for step in (1, 2, 3):
            save(checkpoints, step)
    assert loaded(checkpoints) == 2, "and it is there for the code that wrote it"


def test_code_counts_by_what_it_says_not_by_its_comments(tmp_path):
    texts = {
        "plain": "def f(x):\n    return x + 1\n",
        "polished": '"""What it is."""\n\n\ndef f(x):\n    """Adds."""\n    # one\n    return (x + 1)\n',
        "other": "def f(x):\n    return x + 2\n",
    }
    found = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found[name] = code_version.normalized_source(tmp_path / name)
    assert found["plain"] == found["polished"] != found["other"]


@pytest.mark.parametrize(
    ("problem", "own", "other"),
    [
        ("single", {"data/person_set.py", "tasks/single.py", "metrics/pck.py"}, "tasks/multi.py"),
        ("multi", {"data/image_set.py", "tasks/multi.py", "ops/tag_loss.py"}, "tasks/single.py"),
    ],
)
def test_the_code_of_a_run_is_what_training_its_problem_needs(problem, own, other):
    counted = {path.relative_to(ROOT / "pose").as_posix() for path in code_version.counted_sources(problem)}
    assert own | {"training/trainer.py", "models/hourglass.py", "params/task.py"} <= counted
    assert other not in counted
    assert not [path for path in counted if path.startswith(("report", "cli", "tracking", "data/synthetic"))]
    assert ("csrc" in code_version.code_version(problem)) == (problem == "multi")


def test_an_environment_that_changes_is_logged_and_remembered():
    now = environment(torch.device("cpu"), processes=2, epochs=3, tags=False)
    assert now["torch"] == torch.__version__
    assert merge_environments(now, now) == (now, [])
    merged, changes = merge_environments(now, now | {"processes": 1})
    assert changes == ["processes was 2, is 1"]
    assert merged["processes"] == "2 then 1"
    assert merge_environments(merged, now | {"processes": 1}) == (merged, [])
    assert merge_environments(merged, now)[1] == ["processes was 1, is 2"]


LIMITS = {
    "ONEDNN_MAX_CPU_ISA": ("SSE41", "instructions"),
    "MKL_CBWR": ("COMPATIBLE", "instructions"),
    "OPENCV_CPU_DISABLE": ("AVX2", "opencv"),
    "NPY_DISABLE_CPU_FEATURES": ("X86_V3", "numpy"),
    "ATEN_CPU_CAPABILITY": ("default", "device"),
}


@pytest.mark.slow
def test_a_machine_whose_instructions_are_limited_is_another_environment():
    code = (
        "import json, torch; from pose.training.environment import environment;"
        "print(json.dumps(environment(torch.device('cpu'), processes=1, epochs=1, tags=False)))"
    )

    def limited(**variables: str) -> dict[str, object]:
        env = {name: text for name, text in os.environ.items() if name not in LIMITS} | variables
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
        return json.loads(done.stdout)

    whole = limited()
    for variable, (value, key) in LIMITS.items():
        found = limited(**{variable: value})
        assert {name for name in whole if found[name] != whole[name]} == {key}, variable


SINGLE, MULTI = {"hgpose", "advpose", "hgpose-coco"}, {"hgpose-ae", "advpose-ae"}


@pytest.mark.parametrize(
    ("key", "value", "restarted"),
    [
        ("multi.sigma", 1.7, MULTI),
        ("multi.held_out", 3, MULTI),
        ("multi.augment.flip", 0.1, MULTI),
        ("multi.thresholds.tune", False, MULTI),
        ("tasks.hgpose-ae.weights.pull", 0.7, {"hgpose-ae"}),
        ("single.sigma", 1.7, SINGLE),
        ("tasks.hgpose.batch", 5, {"hgpose"}),
        ("tasks.hgpose.override", {"sigma": 1.7}, {"hgpose"}),
        ("tasks.hgpose-ae.override", {"augment": {"flip": 0.1}}, {"hgpose-ae"}),
        ("tasks.hgpose-ae.override", {}, set()),
        ("tasks.advpose.adversary.weight", 0.7, {"advpose"}),
        ("lr", 0.1, {*SINGLE, *MULTI}),
        ("train.precision", "bfloat16", {*SINGLE, *MULTI}),
        ("tasks.hgpose-ae.epochs", 9, set()),
        ("evaluate.flip_test", False, set()),
        ("train.workers", 1, set()),
        ("datasets", {"hand": own_spec("hand")}, set()),  # as `pose new-dataset` adds
    ],
)
def test_a_change_restarts_the_tasks_that_it_shapes_and_no_other(params, key, value, restarted):
    params = with_values(params, {"train.precision": "float32", "multi.thresholds.tune": True})
    other = with_values(params, {key: value})
    before, after = ({name: fingerprint(one, name, "x") for name in params.tasks} for one in (params, other))
    assert {name for name in before if before[name] != after[name]} == restarted
