"""Beginning from given weights: what is taken, what is refused, and what does not move at first."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import build_cpu_task, user_error, with_values, write_given_weights
from torch import Tensor

from pose.io.files import file_hash
from pose.keypoints.skeleton import built_in
from pose.models.weights import load_weights
from pose.params import Params
from pose.tasks.task import Task

MPII = built_in("mpii").joints
HOURGLASS = {"kind": "hourglass", "stacks": 2, "modules": 1, "features": 8, "stem": [4, 8, 8]}

BASELINE = {"kind": "simple_baseline", "stem": 8, "widths": [8, 8], "blocks": 1, "upsampled": 8}


def begun_from(path: Path, params: Params, name: str = "hgpose", **settings: Any) -> Task:
    """A task that begins from the weights of a file."""
    init = {"weights": str(path), "frozen": 0.0, "lr_scale": 1.0} | settings
    return build_cpu_task(with_values(params, {f"tasks.{name}.init": init}), name)


def state_of(task: Task) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in task.net.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor], names: Any = None) -> list[bool]:
    return [torch.equal(one[name], other[name]) for name in (one if names is None else names)]


# What is taken


@pytest.mark.parametrize(
    ("name", "joints", "taken"),
    [
        # 16 heatmaps: MPII's joint 7 is the thorax, 1 the right knee.
        ("hgpose", ("thorax", "tail", "r_knee"), {7: 0, 1: 2}),
        # 17 heatmaps, 17 tags and 2 spare channels; given 2, 2 and 32. COCO's joint 0 is the nose.
        ("hgpose-ae", ("tail", "nose"), {0: 1, 17: 3, 34: 4, 35: 5}),
    ],
)
def test_an_output_channel_is_taken_from_the_joint_of_the_same_name_and_others_stay_as_drawn(
    params, tmp_path, name, joints, taken
):
    path = write_given_weights(params, name, tmp_path, joints=joints)
    given, drawn = load_weights(path).tensors, state_of(build_cpu_task(params, name))
    task = begun_from(path, params, name)
    found, dims = state_of(task), task.net.output_dims()
    heads = {f"heads.{stack}.{kind}" for stack in (0, 1) for kind in ("weight", "bias")}
    assert set(dims) == heads | {"remap_heatmaps.0.weight"}
    for key, dim in dims.items():
        own, source, before = (tensors[key].movedim(dim, 0) for tensors in (found, given, drawn))
        for channel in range(len(own)):
            expected = source[taken[channel]] if channel in taken else before[channel]
            assert torch.equal(own[channel], expected), (key, channel)
    assert all(equal(found, given, found.keys() - dims.keys()))
    assert task.transfer.whole == found.keys() - dims.keys()
    kept = [joint for joint in task.problem.skeleton.joints if joint in joints]
    line = f"begins from {path}: {len(found) - 5} of {len(found)} tensors taken whole; joints that keep their"
    assert task.transfer.lines[0].startswith(f"{line} channels: {', '.join(kept)}; new: ")


def test_of_the_same_joints_in_the_same_order_everything_is_taken(params, tmp_path):
    path = write_given_weights(params, "hgpose", tmp_path, joints=MPII)
    task = begun_from(path, params)
    found = state_of(task)
    assert all(equal(found, load_weights(path).tensors))
    assert task.transfer.lines == (f"begins from {path}: {len(found)} of {len(found)} tensors taken whole",)
    assert task.transfer.hash == file_hash(path)


@pytest.mark.parametrize(
    ("stacks", "joints"), [(3, MPII), (1, MPII), (3, ("thorax", "tail")), (1, ("tail",))]
)
def test_a_network_of_more_or_fewer_stacks_has_the_first_ones(params, tmp_path, stacks, joints):
    path = write_given_weights(params, "hgpose", tmp_path, joints=joints)  # of two stacks
    params = with_values(params, {"tasks.hgpose.network": HOURGLASS | {"stacks": stacks}})
    given, drawn = load_weights(path).tensors, state_of(build_cpu_task(params, "hgpose"))
    task = begun_from(path, params)
    found, partial = state_of(task), set() if joints == MPII else {*task.net.output_dims()}
    shared = found.keys() & given.keys()
    assert any(name.startswith("hourglasses.0.") for name in shared)
    assert all(equal(found, given, shared - partial))
    assert all(equal(found, drawn, found.keys() - shared)), "further stacks are as drawn"
    assert task.transfer.whole == shared - partial
    line = (
        f"{len(shared - partial)} of {len(found)} tensors taken whole; its first {min(stacks, 2)} of 2 stacks"
    )
    assert f"{line} for {stacks}" in task.transfer.lines[0]
    image_1CHW = torch.rand(1, 3, 64, 64)
    task.net.eval()
    assert task.net(image_1CHW).shape[1] == stacks


def test_further_stacks_can_learn_alone_at_first(params, tmp_path):
    path = write_given_weights(params, "hgpose", tmp_path, joints=MPII)
    params = with_values(params, {"tasks.hgpose.network": HOURGLASS | {"stacks": 3}})
    task = begun_from(path, params, frozen=0.5)
    task.transfer.freeze(task.net, frozen=True)
    learning = {name for name, parameter in task.net.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in task.net.named_parameters()} - task.transfer.whole
    assert any(name.startswith("hourglasses.2.") for name in learning)


def test_single_person_weights_give_a_multi_person_network_its_heatmaps(params, tmp_path):
    params = with_values(params, {"tasks.hgpose-ae.network": HOURGLASS})
    path = write_given_weights(params, "hgpose", tmp_path, joints=built_in("coco").joints)
    task, drawn = begun_from(path, params, "hgpose-ae"), state_of(build_cpu_task(params, "hgpose-ae"))
    head, given = state_of(task)["heads.1.weight"], load_weights(path).tensors["heads.1.weight"]
    assert torch.equal(head[:17], given)
    assert torch.equal(head[17:], drawn["heads.1.weight"][17:])
    assert task.transfer.lines[0].endswith("; new: none; all tags are new")
    different = f"{path} was trained with loss cross_entropy; multi in params.yaml has loss focal"
    assert task.transfer.lines[1].startswith(different)


def test_the_mean_that_given_weights_subtract_goes_with_them(params, tmp_path):
    mean = (0.5, 0.25, 0.125)
    task = begun_from(write_given_weights(params, "hgpose", tmp_path, joints=("r_knee",), mean=mean), params)
    assert task.mean == task.weights().mean == mean


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": 16}, r"given\.pt: of another network: features: found 8, expected 16"),
        ({"modules": 3}, r"another network: modules: found 1, expected 3 \(tasks.hgpose.network\)"),
        (BASELINE, r"another network: kind: found 'hourglass', expected 'simple_baseline'"),
        ({"frozen": 0.5}, r"^tasks\.hgpose\.init\.frozen: found 0\.5, but .*given\.pt has all tensors"),
        ({"weights": "nowhere.pt"}, r"^nowhere\.pt: no such file, expected model weights"),
        ({"weights": "models/hgpose/best.pt"}, r"hgpose\.init\.weights: found models/hgpose/best\.pt, "),
        ({"frozen": 1.5}, r"hgpose\.init\.frozen: found 1\.5, input should be less than or equal to 1"),
    ],
)
def test_what_cannot_be_begun_from_is_one_line(params, tmp_path, changes, message):
    path = write_given_weights(params, "hgpose", tmp_path, joints=MPII)
    settings = {key: value for key, value in changes.items() if key in ("frozen", "weights")}
    if not settings:
        network = changes if "kind" in changes else HOURGLASS | changes
        params = with_values(params, {"tasks.hgpose.network": network})
    with user_error(message):
        begun_from(path, params, **settings)


# Training


STEPS = 10


@pytest.fixture
def frozen(params: Params, tmp_path: Path) -> Task:
    """A task of which all but the channels of new joints stays for half of the steps, with weight decay."""
    changes: dict[str, object] = {
        "tasks.hgpose.optimizer": {"name": "adamw", "weight_decay": 0.1, "betas": [0.9, 0.999]}
    }
    path = write_given_weights(params, "hgpose", tmp_path, joints=("r_knee", "tail"))
    return begun_from(path, with_values(params, changes), frozen=0.5, lr_scale=0.25)


def test_what_is_frozen_does_not_move_and_learns_from_its_step_on(frozen, batches):
    before, whole = state_of(frozen), sorted(frozen.transfer.whole)
    frozen.net.train()
    for step in range(5):
        frozen.step(batches["single"], done=step, steps=STEPS)
    found = state_of(frozen)
    assert all(equal(found, before, whole)), "running statistics too"
    assert not any(equal(found, before, frozen.net.output_dims()))
    assert len(frozen.optimizer.state) == 5, "no moments of what is frozen"
    frozen.net.train()  # as after a validation
    frozen.step(batches["single"], done=5, steps=STEPS)
    moved = [name for name in whole if "num_batches" not in name]
    assert sum(equal(state_of(frozen), found, moved)) < 0.1 * len(moved), "a ReLU may pass nothing on"


def test_rates_are_scaled_and_the_warm_up_of_what_was_frozen_begins_with_it(frozen, batches):
    frozen.params = frozen.params.model_copy(
        update={"schedule": frozen.params.schedule.model_copy(update={"name": "constant", "warmup": 0.2})}
    )
    rates = []
    for step in (0, 4, 5, 6, 9):
        frozen.step(batches["single"], done=step, steps=STEPS)
        rates.append([group["lr"] / frozen.lr for group in frozen.optimizer.param_groups])
    assert [new for new, _ in rates] == pytest.approx([0.5, 1, 1, 1, 1])
    assert [taken for _, taken in rates[2:]] == pytest.approx([0.125, 0.25, 0.25])


def test_a_resumed_task_goes_over_the_unfreezing_with_equal_bits(frozen, batches):
    def train_from(start: int, task: Task, stop: int = 6) -> Task:
        for step in range(start, stop):
            task.step(batches["single"], done=step, steps=6)
        return task

    undisturbed = state_of(train_from(0, copy.deepcopy(frozen)))
    for start in (2, 3, 4):
        before, resumed = train_from(0, copy.deepcopy(frozen), start), copy.deepcopy(frozen)
        resumed.net.load_state_dict(before.net.state_dict())
        resumed.optimizer.load_state_dict(before.optimizer.state_dict())
        assert all(equal(state_of(train_from(start, resumed)), undisturbed))
