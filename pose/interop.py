"""Weights of five published networks, read into ours and written back. What differs is how the tensors are called.

The codes, by the names used here: `bearpaw_hg` (bearpaw/pytorch-pose and anibali/pytorch-stacked-hourglass), `roytseng_hgpose`,
`roytseng_discriminator` and `roytseng_hgpose_ae` (roytseng-tw/adversarial-pose-pytorch), `umich_pose_ae` (princeton-vl/pose-ae-train).
"Ours" below is a name in our state dict, "theirs" the same tensor's name in a published one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.checkpoint import WEIGHTS_FORMAT, Weights, check_tensors, load_weights, read_torch, save_atomically, save_weights
from pose.errors import UserError
from pose.nets.ae_hourglass import AEHourglass
from pose.nets.blocks import DEPTH
from pose.nets.discriminator import Discriminator
from pose.nets.hourglass import StackedHourglass
from pose.params import (
    AEParams,
    AugmentParams,
    HourglassParams,
    MultiAugmentParams,
    MultiParams,
    RotationParams,
    ScaleParams,
    SingleParams,
    ThresholdParams,
    parse,
)
from pose.skeleton import MPII

Rules = list[tuple[str, str]]  # patterns in our names and what stands for them in theirs; all are applied, in their order
Tensors = Mapping[str, Tensor]

MOST_LAYERS = 32  # stacks, and modules in each: published networks have up to 8
PREFIXES = ("", "module.", "model.", "module.model.")  # what DataParallel and a trainer around the network put before each name


@dataclass(frozen=True)
class Peer:
    """A published network. mark: a tensor that is in no other peer of its layout; stem: ours of the first convolution, of `kernel` px.

    key and prefix: where its code keeps the state dict in a checkpoint, and what its names start with there. mean: the colour
    (RGB, 0 to 1) that its code takes off the images.
    """

    name: str
    network: Callable[..., nn.Module]
    settings: Callable[[_Found], dict[str, Any]]
    rules: Rules
    mark: str
    stem: str
    kernel: int
    key: str
    prefix: str = "module."
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def theirs(self, ours: str) -> str:
        """The published name of our tensor."""
        for pattern, replacement in self.rules:
            ours = re.sub(pattern, replacement, ours)
        return ours

    def matches(self, tensors: Tensors, prefix: str) -> bool:
        """Is this the network whose tensors these are?"""
        first = tensors.get(prefix + self.theirs(self.stem))
        return prefix + self.mark in tensors and first is not None and first.shape[-1:] == (self.kernel,)


@dataclass(frozen=True)
class _Found:
    """A published state dict, looked into by our names."""

    source: str
    peer: Peer
    prefix: str
    tensors: Tensors

    def name(self, ours: str) -> str:
        return self.prefix + self.peer.theirs(ours)

    def channels(self, ours: str) -> tuple[int, int]:
        """Of a convolution: outputs and inputs."""
        name = self.name(ours)
        found = tuple(self.tensors[name].shape) if name in self.tensors else "nothing"
        if len(found) != 4 or 0 in found:
            raise UserError(f"{self.source}: tensor {name}: found {found}, expected the weights of a convolution")
        return int(found[0]), int(found[1])

    def count(self, ours: str) -> int:
        """How many there are of tensors numbered from 0, `{}` in the name being the number."""
        for number in range(MOST_LAYERS + 1):
            if self.name(ours.format(number)) not in self.tensors:
                return number
        raise UserError(f"{self.source}: tensor {self.name(ours.format(MOST_LAYERS))}: expected at most {MOST_LAYERS} of its kind")


@dataclass(frozen=True)
class Published:
    """Published weights, read. settings: what our network of that kind is built from. tensors: our state dict."""

    peer: Peer
    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    def network(self) -> nn.Module:
        """Our network with these weights, in evaluation mode."""
        network = _without_weights(self.peer, self.settings)
        network.load_state_dict(self.tensors, assign=True)
        return network.eval()


# What each peer calls our tensors


def _residual_rules(*, stem: Mapping[int, str], match: str, outermost: int) -> Rules:
    """For networks that keep an hourglass as a table, `hg.STACK.hg.SCALE.PLACE`, where ours is nested. outermost: largest scale's row."""
    rules = [(rf"^stem\.{place}\.", f"{theirs}.") for place, theirs in stem.items()]
    for depth in range(DEPTH):
        for place, part in enumerate(("skip", "before", "after", "inner")):
            # Followed by a digit: an `inner` that holds residuals, not the next scale.
            pattern = rf"^hourglasses\.(\d+)\.(?:inner\.){{{depth}}}{part}\.(?=\d)"
            rules.append((pattern, rf"hg.\1.hg.{abs(outermost - depth)}.{place}."))
    return [
        *rules,
        (r"^necks\.(\d+)\.0\.", r"res.\1."),
        (r"^necks\.(\d+)\.1\.", r"fc.\1."),
        (r"^heads\.", "score."),
        (r"^remap_features\.", "fc_."),
        (r"^remap_heatmaps\.", "score_."),
        (r"\.match\.", f".{match}."),
    ]


def _ae_rules(*, stem: Mapping[int, str], conv: str, in_hourglass: str, neck: tuple[str, str]) -> Rules:
    """For the networks of associative embedding. conv, in_hourglass: what stands between a layer's name and `weight`."""
    return [
        *((rf"^stem\.{place}\.0\.", f"{theirs}.{conv}") for place, theirs in stem.items()),
        *((rf"^necks\.(\d+)\.{place}\.0\.", rf"features.\1.{theirs}.{conv}") for place, theirs in enumerate(neck)),
        (r"^hourglasses\.(\d+)\.", r"features.\1.0."),
        (r"\bskip\.0\.", f"up1.{in_hourglass}"),
        (r"\bbefore\.0\.", f"low1.{in_hourglass}"),
        (r"\binner\.0\.", f"low2.{in_hourglass}"),
        (r"\bafter\.0\.", f"low3.{in_hourglass}"),
        (r"\binner\.", "low2."),
        (r"^heads\.(\d+)\.", rf"outs.\1.{conv}"),
        (r"^remap_features\.(\d+)\.", rf"merge_features.\1.conv.{conv}"),
        (r"^remap_heatmaps\.(\d+)\.", rf"merge_preds.\1.conv.{conv}"),
    ]


# What a network is built from, as its tensors' sizes tell


def _residual_settings(second: str, third: str) -> Callable[[_Found], dict[str, Any]]:
    """second, third: our names of the two residuals in the stem."""

    def settings(found: _Found) -> dict[str, Any]:
        joints, features = found.channels("heads.0.weight")
        stem = [found.channels(ours)[0] for ours in ("stem.0.weight", f"{second}.conv3.weight", f"{third}.conv3.weight")]
        stacks, modules = found.count("heads.{}.weight"), found.count("necks.0.0.{}.conv1.weight")
        return {"joints": joints, "stacks": stacks, "modules": modules, "features": features, "stem": stem}

    return settings


def _ae_settings(found: _Found) -> dict[str, Any]:
    outputs, features = found.channels("heads.0.weight")
    wider = found.channels("hourglasses.0.before.0.weight")[0]
    if wider < features:
        name = found.name("hourglasses.0.before.0.weight")
        raise UserError(f"{found.source}: tensor {name}: found {wider} channels, expected at least {features}")
    stem = [found.channels(f"stem.{place}.0.weight")[0] for place in (0, 1, 3)]
    return {
        "outputs": outputs,
        "stacks": found.count("heads.{}.weight"),
        "features": features,
        "increase": wider - features,
        "stem": stem,
    }


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="bearpaw_hg",
            network=StackedHourglass,
            settings=_residual_settings("stem.3", "stem.5"),
            rules=_residual_rules(
                stem={0: "conv1", 1: "bn1", 3: "layer1.0", 5: "layer2.0", 6: "layer3.0"},
                match="downsample.0",
                outermost=3,
            ),
            mark="layer1.0.conv1.weight",
            stem="stem.0.weight",
            kernel=7,
            key="state_dict",
            mean=(0.4404, 0.4440, 0.4327),  # of MPII's training images
        ),
        Peer(
            name="roytseng_hgpose",
            network=StackedHourglass,
            settings=_residual_settings("stem.3", "stem.5"),
            rules=_residual_rules(
                stem={0: "conv1", 1: "bn1", 3: "res1", 5: "res2", 6: "res3"},
                match="conv_skip",
                outermost=0,
            ),
            mark="res1.conv1.weight",
            stem="stem.0.weight",
            kernel=7,
            key="netHg",
        ),
        Peer(
            name="roytseng_discriminator",
            network=Discriminator,
            settings=_residual_settings("stem.3", "stem.4"),
            rules=_residual_rules(
                stem={0: "conv1", 1: "bn1", 3: "res1", 4: "res2", 5: "res3"},
                match="conv_skip",
                outermost=0,
            ),
            mark="res1.conv1.weight",
            stem="stem.0.weight",
            kernel=3,
            key="netD",
        ),
        Peer(
            name="roytseng_hgpose_ae",
            network=AEHourglass,
            settings=_ae_settings,
            rules=_ae_rules(
                stem={0: "head.0", 1: "head.2", 3: "head.5", 4: "head.7"},
                conv="",
                in_hourglass="0.0.",
                neck=("1", "3"),
            ),
            mark="head.0.weight",
            stem="stem.0.0.weight",
            kernel=7,
            key="netHg",
        ),
        Peer(
            name="umich_pose_ae",
            network=AEHourglass,
            settings=_ae_settings,
            rules=_ae_rules(
                stem={0: "pre.0", 1: "pre.1", 3: "pre.3", 4: "pre.4"},
                conv="conv.",
                in_hourglass="conv.",
                neck=("1", "2"),
            ),
            mark="pre.0.conv.weight",
            stem="stem.0.0.weight",
            kernel=7,
            key="state_dict",
            prefix="module.model.",
        ),
    )
}


def import_weights(source: str | Path | Mapping[str, Any], kind: str | None = None) -> tuple[nn.Module, dict[str, Tensor]]:
    """Our network with published weights, in evaluation mode, and its state dict. Arguments and errors as in `read_published`."""
    network = read_published(source, kind).network()
    return network, network.state_dict()


def read_published(source: str | Path | Mapping[str, Any], kind: str | None = None) -> Published:
    """Read a published checkpoint or state dict; which network it is and of what size, its tensors tell.

    source: a file, or what such a file holds. kind: a key of `PEERS`, to insist on that network or, in a checkpoint of several, to
    choose (a pose network goes before a discriminator). UserError naming the file, the tensor, what was found and what was expected.
    """
    content, name = (
        (source, "state dict") if isinstance(source, Mapping) else (read_torch(Path(source), "a published checkpoint"), str(source))
    )
    if kind is not None:
        _peer(kind)
    recognised = [(found.peer.name, found) for tensors in _state_dicts(content) for found in _recognise(tensors, name)]
    for peer, found in recognised:
        if kind in (None, peer):
            return _translate(found)
    if recognised:
        raise UserError(f"{name}: found {' and '.join(peer for peer, _ in recognised)}, expected {kind}")
    if isinstance(content, Mapping) and content.get("format") == WEIGHTS_FORMAT:
        raise UserError(f"{name}: found this project's own weights for use, expected a published checkpoint ({', '.join(PEERS)})")
    raise UserError(f"{name}: found {_describe(content)}, expected the tensors of one of: {', '.join(PEERS)}")


def export_weights(tensors: Tensors, kind: str) -> dict[str, Tensor]:
    """Our state dict under the names of a published code (`kind`, a key of `PEERS`); UserError if it is of another architecture.

    Names fit networks of any width; the published codes themselves build theirs with stems of 64, 128, 128 (bearpaw: 256) channels.
    """
    peer = _peer(kind)
    theirs = {peer.theirs(ours): tensor for ours, tensor in tensors.items()}
    if not peer.matches(theirs, prefix=""):
        expected = f"the tensors of our {peer.network.__name__} with a stem of three numbers, as {kind} has it"
        raise UserError(f"state dict: found {_describe(tensors)}, expected {expected}")
    _translate(_Found("state dict", peer, "", theirs))
    return theirs


def write_exported(tensors: Tensors, out: str | Path, kind: str) -> None:
    """Write our state dict as a checkpoint that the published code reads. `peer.mean` is left to its user: ours see no such shift."""
    peer = _peer(kind)
    theirs = export_weights(tensors, kind)
    save_atomically(out, {peer.key: {peer.prefix + name: tensor.detach().cpu().contiguous() for name, tensor in theirs.items()}})


def export_file(weights: str | Path, out: str | Path, kind: str) -> None:
    """`write_exported` of weights for use. UserError, naming the file, also for maps that the published codes would misread.

    They take the network's output as heatmaps and tags as they are, where ours may be logits, or tags to be multiplied.
    """
    ours = load_weights(weights)
    if ours.params.loss != "mse":
        raise UserError(f"{weights}: taught with loss: {ours.params.loss}, whose maps are logits; {kind} expects heatmaps (loss: mse)")
    if isinstance(ours.params, MultiParams) and ours.params.tag_gain != 1:
        raise UserError(f"{weights}: taught with tag_gain: {ours.params.tag_gain:g}; {kind} expects tags as they are (tag_gain: 1.0)")
    try:
        write_exported(ours.tensors, out, kind)
    except UserError as error:
        raise UserError(f"{weights}: {error}") from None


# The conventions by which the published networks were trained; what the single-person ones augmented by is the self-adversarial code's.
PUBLISHED_SINGLE = SingleParams(
    input=256,
    crop=1.25,
    sigma=1.0,
    target="floor",
    unlabelled="zero",
    loss="mse",
    foreground=0.0,
    augment=AugmentParams(
        rotation=RotationParams(deg=30.0, clip=30.0, probability=0.6),
        scale=ScaleParams(kind="linear", spread=0.25),
        flip=0.5,
        colour=0.4,
    ),
)
PUBLISHED_MULTI = MultiParams(
    input=512,
    sigma=2.0,
    target="floor",
    people=30,
    loss="mse",
    focus=1.0,
    foreground=0.0,
    tag_gain=1.0,
    held_out=0,
    thresholds=ThresholdParams(choose=False, detection=0.1, tag=1.0, reach=0.5),
    augment=MultiAugmentParams(rotation=30.0, scale=0.25, shift=0.2, flip=0.5, hue=72.0, saturation=0.5, brightness=0.3, contrast=0.5),
)


def write_imported(source: str | Path, out: str | Path, *, task: str | None = None, kind: str | None = None) -> Published:
    """Write a published pose network as weights for use, which `pose.infer` loads; `out` is untouched on any error.

    task: by default `hgpose` or `hgpose-ae`, by the network.
    """
    published = read_published(source, kind)
    settings, single = published.settings, published.peer.network is StackedHourglass
    if not single and published.peer.network is not AEHourglass:
        raise UserError(f"{source}: found {published.peer.name}, expected a pose network")
    if single and settings["joints"] != len(MPII):
        raise UserError(f"{source}: found {settings['joints']} joints, expected the {len(MPII)} of MPII")
    spec: type[HourglassParams] | type[AEParams] = HourglassParams if single else AEParams
    values = {key: settings[key] for key in spec.model_fields if key != "kind"}
    weights = Weights(
        task=task or ("hgpose" if single else "hgpose-ae"),
        network=parse(spec, {"kind": "hourglass" if single else "ae"} | values, f"{source}: network"),
        params=PUBLISHED_SINGLE if single else PUBLISHED_MULTI,
        tensors=published.tensors,
        mean=published.peer.mean,
    )
    save_weights(out, weights)
    return published


def _peer(kind: str) -> Peer:
    if kind not in PEERS:
        raise UserError(f"kind: found {kind!r}, expected one of: {', '.join(PEERS)}")
    return PEERS[kind]


def _state_dicts(content: Any) -> Iterator[Tensors]:
    """State dicts in a checkpoint: pose networks first, a discriminator last, whatever key their own code keeps them under."""
    if not isinstance(content, Mapping):
        return
    for candidate in (content.get("netHg"), content.get("state_dict"), content, content.get("netD")):
        if isinstance(candidate, Mapping):
            yield {name: value for name, value in candidate.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _recognise(tensors: Tensors, source: str) -> Iterator[_Found]:
    for peer, prefix in itertools.product(PEERS.values(), PREFIXES):
        if peer.matches(tensors, prefix):
            check_tensors(tensors, source)
            yield _Found(source, peer, prefix, tensors)


def _translate(found: _Found) -> Published:
    """A recognised state dict as ours, tensor by tensor, every one of them used."""
    settings = found.peer.settings(found)
    tensors: dict[str, Tensor] = {}
    for ours, expected in _without_weights(found.peer, settings).state_dict().items():
        name = found.name(ours)
        tensor = found.tensors.get(name)
        if tensor is None and ours.endswith("num_batches_tracked"):
            tensor = torch.zeros_like(expected, device="cpu")  # unknown to torch before 0.4.1, by which some weights were written
        shape = "nothing" if tensor is None else tuple(tensor.shape)
        if tensor is None or shape != tuple(expected.shape):
            raise UserError(f"{found.source}: tensor {name}: found {shape}, expected {tuple(expected.shape)} ({found.peer.name})")
        tensors[ours] = tensor.detach().to(device="cpu", dtype=expected.dtype, copy=True).contiguous()
    unknown = sorted(set(found.tensors) - {found.name(ours) for ours in tensors})
    if unknown:
        raise UserError(f"{found.source}: tensor {unknown[0]}: not part of {found.peer.name} of {settings['stacks']} stacks")
    return Published(found.peer, settings, tensors)


def _without_weights(peer: Peer, settings: Mapping[str, Any]) -> nn.Module:
    """The network with no memory behind its tensors: nothing is drawn, so the caller's random numbers stay as they were."""
    with torch.device("meta"):
        return peer.network(**settings)


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    names = [str(name) for name in content]
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "nothing"
