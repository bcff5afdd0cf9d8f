"""A training that begins from given weights: resumed exactly, never mixed with another, and on record."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import latest_checkpoint, user_error, with_values, write_given_weights

from pose.io.errors import Interrupted
from pose.io.files import file_hash
from pose.models.weights import load_weights, save_weights
from pose.params import Params
from pose.tasks.fingerprint import changed_params, fingerprint
from pose.tracking.base import NullTracker, RunInfo
from pose.training.checkpoint import load_checkpoint
from pose.training.launch import check_inputs
from pose.training.trainer import train

STEPS = 8


@pytest.fixture
def given(params: Params, tmp_path: Path) -> Path:
    return write_given_weights(params, "hgpose", tmp_path, joints=("r_knee", "tail"))


@pytest.fixture
def tuned(params: Params, given: Path) -> Params:
    """Parameters by which hgpose begins from given weights, frozen for half of the steps."""
    init = {"weights": str(given), "frozen": 0.5, "lr_scale": 0.5}
    return with_values(params, {"tasks.hgpose.init": init, "train.precision": "bfloat16"})


def interrupted_after(step: int) -> Any:
    def interrupt(done: int, _: Any) -> None:
        if done == step:
            signal.raise_signal(signal.SIGTERM)

    return interrupt


def test_a_run_that_is_resumed_at_the_unfreezing_ends_as_one_that_was_not(tuned, prepared, tmp_path, caplog):
    settings: dict[str, Any] = {"prepared": prepared, "max_steps": STEPS}
    folders = [tmp_path / "undisturbed", tmp_path / "resumed"]
    train(tuned, "hgpose", folder=folders[0], **settings)
    with pytest.raises(Interrupted):
        train(tuned, "hgpose", folder=folders[1], on_step=interrupted_after(3), **settings)
    train(tuned, "hgpose", folder=folders[1], **settings)
    assert "resuming from step 4 of 8" in caplog.text  # a run that is asked to end does one more step
    assert caplog.text.count("begins from") == 2, "not where it is resumed"
    files = [folder / "models/hgpose/last.pt" for folder in folders]
    assert files[0].read_bytes() == files[1].read_bytes()


class Recorder(NullTracker):
    """Keeps what a run says of itself."""

    def start(self, run: RunInfo) -> None:
        self.run = run


def test_weights_and_runs_name_the_file_they_began_from_by_its_content(tuned, given, prepared, tmp_path):
    tracker = Recorder()
    train(tuned, "hgpose", folder=tmp_path, prepared=prepared, max_steps=2, tracker=tracker)
    trained = load_weights(tmp_path / "models/hgpose/last.pt").provenance
    assert trained["init"] == tracker.run.tags["init_hash"] == file_hash(given)
    assert trained["task.init.weights"] == tracker.run.params["task.init.weights"] == str(given)
    assert trained["task.init.frozen"] == 0.5


def test_weights_that_began_otherwise_than_params_now_say_are_told_apart(params, tuned):
    plain, begun = (fingerprint(one, "hgpose", "data", "hash") for one in (params, tuned))
    assert changed_params(tuned, "hgpose", begun) == changed_params(params, "hgpose", plain) == {}
    tuned = with_values(tuned, {"train.precision": params.train.precision})
    weights = tuned.task("hgpose").init.weights
    for now, was, text in (
        (tuned, plain, f"was None, is {weights!r}"),
        (params, begun, f"was {weights!r}, is None"),
    ):
        changed = changed_params(now, "hgpose", was | {"train.precision": "float32"})
        assert changed["task.init.weights"] == text
        assert changed.keys() == {f"task.init.{key}" for key in ("weights", "frozen", "lr_scale")}


def test_a_run_is_not_resumed_from_one_that_began_from_other_weights(
    tuned, given, prepared, tmp_path, caplog
):
    settings: dict[str, Any] = {"folder": tmp_path, "prepared": prepared, "max_steps": STEPS}
    with pytest.raises(Interrupted):
        train(tuned, "hgpose", on_step=interrupted_after(2), **settings)
    checkpoint = load_checkpoint(latest_checkpoint(tmp_path, "hgpose"))
    weights = load_weights(given)
    weights.tensors["heads.0.bias"][0] += 1
    save_weights(given, weights)
    train(tuned, "hgpose", **settings)
    was = checkpoint.fingerprint["init"]
    assert f"is of another run: init was '{was}', is '{file_hash(given)}'" in caplog.text
    given.unlink()
    with user_error(r"given\.pt: no such file"):
        train(tuned, "hgpose", **settings)


def test_who_starts_several_processes_first_looks_at_the_weights_to_begin_from(tuned, given, prepared):
    assert check_inputs(tuned, "hgpose", processes=1, prepared=prepared).steps_per_epoch
    content = torch.load(given, weights_only=True)
    torch.save(content | {"network": content["network"] | {"features": 16}}, given)
    with user_error("of another network: features: found 16, expected 8"):
        check_inputs(tuned, "hgpose", processes=1, prepared=prepared)
