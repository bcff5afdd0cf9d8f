"""Resume states: the newest sound one of the same run, or a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pose.io.errors import UserError
from pose.models.weights import load_checkpoint
from pose.training.checkpoint import CheckpointManager, environment, merge_environments
from pose.training.trainer import code_version as sources

SHAPE = {"lr": 0.1, "seed": 1, "data": "abc"}


def content(step: int) -> dict[str, Any]:
    rest: dict[str, Any] = {
        "environment": {},
        "optimizer": {},
        "tracking": {},
        "adversary": None,
        "best": None,
    }
    return rest | {"net": {"weight": torch.full((1000,), float(step))}, "progress": {"step": step}}


@pytest.fixture
def states(tmp_path: Path) -> CheckpointManager:
    """Two states of one run, after steps 1 and 2."""
    states = CheckpointManager(tmp_path)
    for step in (1, 2):
        states.write(SHAPE, content(step))
    return states


def read(states: CheckpointManager, shape: dict[str, Any] = SHAPE) -> tuple[int, list[str]]:
    """The step of the state that is read, 0 for none, and what is said."""
    said: list[str] = []
    found = states.read(shape, said.append)
    return (found[1]["progress"]["step"] if found else 0), said


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)


def test_the_newest_state_is_read_and_the_one_before_is_kept(states: CheckpointManager):
    assert read(states) == (2, [])
    assert load_checkpoint(states.before)["progress"]["step"] == 1


def test_one_flipped_bit_of_a_weight_is_noticed_and_the_state_before_is_used(states: CheckpointManager):
    flip(states.newest, 0.6)
    assert torch.load(states.newest, weights_only=True)["net"]["weight"].ne(2).sum() == 1, (
        "torch itself does not notice"
    )
    step, said = read(states)
    assert step == 1
    assert [line.partition(":")[0] for line in said] == ["passed over"]
    assert str(states.newest) in said[0]
    states.write(SHAPE, content(2))
    assert read(states) == (2, [])
    assert load_checkpoint(states.before)["progress"]["step"] == 1, (
        "the damaged one took the sound one's place"
    )


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_state_that_is_cut_short_is_noticed(states: CheckpointManager, keep: float):
    data = states.newest.read_bytes()
    states.newest.write_bytes(data[: int(keep * len(data))])
    step, [line] = read(states)
    assert step == 1
    assert line.startswith(f"passed over: {states.newest}: ")


def test_a_state_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(states: CheckpointManager):
    data = states.newest.read_bytes()
    states.newest.unlink()
    states.newest.mkdir()  # what the system says of it is not that it is damaged; permissions do not bind root
    with pytest.raises(UserError, match=r"state\.pt: is a folder"):
        states.read(SHAPE, print)
    states.newest.rmdir()
    states.newest.write_bytes(data)
    assert read(states) == (2, [])


def test_a_kill_between_the_two_renames_leaves_the_state_before(states: CheckpointManager):
    states.newest.rename(states.before)
    assert read(states) == (2, [])


def test_where_both_are_damaged_training_starts_afresh_and_says_so(states: CheckpointManager):
    flip(states.newest, 0.6)
    flip(states.before, 0.6)
    step, said = read(states)
    assert step == 0
    assert said[-1] == "starts afresh: no sound state is left"


def test_a_state_of_another_run_names_all_keys_that_differ(states: CheckpointManager):
    step, [line] = read(states, SHAPE | {"lr": 0.2, "data": "abd"})
    assert step == 0
    assert line == f"starts afresh: {states.newest} is of another run: data was 'abc', is 'abd'; and lr"


def test_a_state_of_other_code_is_not_continued_and_the_file_is_named(
    states: CheckpointManager, monkeypatch: pytest.MonkeyPatch
):
    changed = sources.code_version("single") | {"pose/keypoints/heatmap.py": "0"}
    monkeypatch.setattr("pose.training.checkpoint.code_version", lambda problem: changed)
    step, [line] = read(states)
    assert step == 0
    assert "code of pose/keypoints/heatmap.py was" in line


def test_code_counts_by_what_it_says_not_by_its_comments(tmp_path: Path):
    texts = {
        "plain": "def f(x):\n    return x + 1\n",
        "polished": '"""What it is."""\n\n\ndef f(x):\n    """Adds."""\n    # one\n    return (x + 1)\n',
        "other": "def f(x):\n    return x + 2\n",
    }
    said = {}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        said[name] = sources._said(tmp_path / name)
    assert said["plain"] == said["polished"]
    assert said["plain"] != said["other"]


@pytest.mark.parametrize(("problem", "other"), [("single", "multi"), ("multi", "single")])
def test_the_code_of_a_run_is_all_that_training_imports_and_nothing_of_the_report_or_the_other_problem(
    problem: str, other: str
):
    own = {
        "single": {"pose/data/person_set.py", "pose/metrics/pck.py"},
        "multi": {
            "pose/data/image_set.py",
            "pose/keypoints/grouping.py",
            "pose/inference/thresholds.py",
            "csrc/tag_loss_cpu.cpp",
        },
    }
    version = sources.code_version(problem)
    common = {
        "pose/training/trainer.py",
        "pose/models/hourglass.py",
        "pose/data/single_samples.py",
        "pose/keypoints/skeleton.py",
        f"pose/{problem}.py",
    }
    assert common | own[problem] <= version.keys()
    assert f"pose/{other}.py" not in version
    assert not [path for path in version if path.startswith(("pose/report", "pose/cli", "pose/tracking"))]


def test_an_environment_that_changes_is_said_and_remembered():
    now = environment(torch.device("cpu"), 2, tags=False)
    assert now["torch"] == torch.__version__
    assert merge_environments(now, now) == (now, [])
    joined, changes = merge_environments(now, now | {"processes": 1})
    assert changes == ["processes was 2, is 1"]
    assert joined["processes"] == "2 then 1"
    assert merge_environments(joined, now | {"processes": 1}) == (joined, [])
    assert merge_environments(joined, now)[1] == ["processes was 1, is 2"]
