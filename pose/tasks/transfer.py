"""Fine-tuning: a network that begins from given weights, of the same or of other joints.

C output channels, K joints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pose.io.errors import UserError
from pose.io.files import file_hash
from pose.keypoints.skeleton import same_joints
from pose.models.blocks import PoseNetwork
from pose.models.networks import NetworkParams
from pose.models.weights import Weights, build_network, load_weights
from pose.params import TaskParams
from pose.tasks.base import Problem

MAPS = ("heatmap", "tag")  # of a joint, in the order of the output channels
HEAD = "heads.0.weight"  # of any network; its first dimension are the output channels
STACKS = "stacks"  # the one parameter in which the networks may differ
MOST_NAMES = 20  # of joints in a log line


@dataclass(frozen=True)
class Transfer:
    """What a network has taken from given weights.

    hash: MD5 of their file. mean: colour (RGB, 0 to 1) that they subtract from images. whole: names of the
    tensors that were taken whole; the others have output channels of joints that the weights lack or have in
    another order, or are of stacks that the weights lack. lines: all this in words.
    """

    hash: str
    mean: tuple[float, float, float]
    whole: frozenset[str]
    lines: tuple[str, ...]

    def freeze(self, net: nn.Module, frozen: bool) -> None:
        """Let the tensors that were taken whole stay as they are, or learn.

        Frozen batch normalisations also keep, and normalise by, their running statistics.
        """
        for name, parameter in net.named_parameters():
            if name in self.whole:
                parameter.requires_grad_(not frozen)
        for name, module in net.named_modules():
            if isinstance(module, _BatchNorm) and f"{name}.running_mean" in self.whole:
                module.train(net.training and not frozen)


def transfer_weights(net: PoseNetwork, name: str, spec: TaskParams, problem: Problem) -> Transfer:
    """Copy into the network of a task what the file `init.weights` has for it.

    Tensors without output channels are taken whole, the others too if both networks have the same joints in
    the same order; else channels are taken from the joint of the same name, and what the weights lack stays
    as it was drawn. Of networks that differ in the number of stacks, the first ones are taken. UserError for
    weights of another network, or if nothing would be left to train.
    """
    assert spec.init
    path = spec.init.weights
    weights = load_weights(path)
    if difference := _different_network(weights.network, spec.network):
        raise UserError(f"{path}: of another network: {difference} (tasks.{name}.network)")
    tensors = net.state_dict()
    device = tensors[HEAD].device
    given = build_network(weights, path, device).state_dict()
    joint_K = same_joints(problem.skeleton, weights.skeleton).tolist()
    own_maps, maps = problem.outputs // len(problem.skeleton), weights.outputs // len(weights.skeleton)
    own_C = _channels(joint_K, own_maps, len(tensors[HEAD]))
    given_C = _channels(range(len(weights.skeleton)), maps, len(given[HEAD]))
    taken = [key for key in tensors if key in given]  # all but those of further stacks
    partial = net.output_dims() if own_C != given_C else {}
    if spec.init.frozen and not partial and len(taken) == len(tensors):
        found = f"found {spec.init.frozen:g}, but {path} has all tensors of this network"
        raise UserError(f"tasks.{name}.init.frozen: {found}, expected 0: nothing would be left to train")
    pairs = [(c, given_C.index(channel)) for c, channel in enumerate(own_C) if channel in given_C]
    taken_c, given_c = torch.tensor(pairs, dtype=torch.int64, device=device).reshape(-1, 2).unbind(1)
    for key in taken:
        if key in partial:
            part = given[key].index_select(partial[key], given_c)
            tensors[key].index_copy_(partial[key], taken_c, part)
        else:
            tensors[key].copy_(given[key])
    whole = frozenset({*taken} - partial.keys())
    line = f"begins from {path}: {len(whole)} of {len(tensors)} tensors taken whole"
    stacks, own_stacks = (getattr(one, STACKS, 1) for one in (weights.network, spec.network))
    if stacks != own_stacks:
        line += f"; its first {min(stacks, own_stacks)} of {stacks} stacks for {own_stacks}"
    if partial:
        joints = list(zip(problem.skeleton.joints, joint_K, strict=True))
        kept, new = [joint for joint, k in joints if k >= 0], [joint for joint, k in joints if k < 0]
        line += f"; joints that keep their channels: {_listed(kept)}; new: {_listed(new)}"
        line += "; all tags are new" if own_maps > maps else ""
    lines = (line, *_different_conventions(weights, problem, path))
    return Transfer(file_hash(path), weights.mean, whole, lines)


def _channels(joints: Iterable[int], maps: int, count: int) -> list[tuple[str, int]]:
    """What each channel of an output is. joints: their numbers, -1 for one that is nowhere else.

    Spare channels, which published networks have, are seen by the next stack alone.
    """
    of_joints = [(kind, joint) for kind in MAPS[:maps] for joint in joints]
    return of_joints + [("spare", number) for number in range(count - len(of_joints))]


def _different_network(found: NetworkParams, expected: NetworkParams) -> str:
    """The first parameter that differs, in words; the numbers of outputs and stacks may."""
    one, other = (network.model_dump(exclude={"outputs", STACKS}) for network in (found, expected))
    for key in dict.fromkeys([*one, *other]):  # `kind` first
        if one.get(key) != other.get(key):
            return f"{key}: found {one.get(key)!r}, expected {other.get(key)!r}"
    return ""


def _different_conventions(weights: Weights, problem: Problem, path: str) -> list[str]:
    """A line on what is trained otherwise than the weights were, such as another loss, if anything is."""
    own = problem.inference_params()
    different = [
        key
        for key in weights.inference
        if key in own.keys() - {"thresholds"} and weights.inference[key] != own[key]
    ]
    if not different:
        return []
    was, now = (", ".join(f"{key} {one[key]}" for key in different) for one in (weights.inference, own))
    return [f"{path} was trained with {was}; {problem.kind} in params.yaml has {now}, which counts here"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more or "none"
