"""Weights of five published networks, read into ours and written back.

What differs is how the tensors are called.

The formats, by the names used here: `bearpaw_hg` (bearpaw/pytorch-pose and
anibali/pytorch-stacked-hourglass), `roytseng_hgpose`, `roytseng_discriminator` and `roytseng_hgpose_ae`
(roytseng-tw/adversarial-pose-pytorch), `umich_pose_ae` (princeton-vl/pose-ae-train). An internal name is that
of a tensor in our state dict, an external name the same tensor's in a published one.
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

from pose.io.errors import UserError
from pose.io.schema import parse
from pose.io.torch_file import check_tensors, load_torch, save_torch
from pose.keypoints.skeleton import COCO, MPII
from pose.models.ae_hourglass import AEHourglass
from pose.models.blocks import DEPTH
from pose.models.discriminator import Discriminator
from pose.models.hourglass import StackedHourglass
from pose.models.networks import AEHourglassParams, HourglassParams
from pose.models.weights import FORMAT, NO_MEAN, Weights, load_weights, save_weights

Rules = list[
    tuple[str, str]
]  # patterns in internal names and what replaces them; all are applied, in their order
Tensors = Mapping[str, Tensor]

MAX_LAYERS = 32  # stacks, and modules in each: published networks have up to 8
PREFIXES = ("", "module.", "model.", "module.model.")  # what DataParallel and trainers put before each name


@dataclass(frozen=True)
class ExternalFormat:
    """A published network.

    signature: a tensor that no other format of its layout has. stem: internal name of the first convolution,
    of `kernel` px. key and prefix: where its code keeps the state dict in a checkpoint, and what names begin
    with there. mean: the colour (RGB, 0 to 1) that its code subtracts from the images.
    """

    name: str
    network: Callable[..., nn.Module]
    settings: Callable[[_ExternalTensors], dict[str, Any]]
    rules: Rules
    signature: str
    stem: str
    kernel: int
    key: str
    prefix: str = "module."
    mean: tuple[float, float, float] = NO_MEAN

    def external_name(self, internal_name: str) -> str:
        """The published name of a tensor."""
        name = internal_name
        for pattern, replacement in self.rules:
            name = re.sub(pattern, replacement, name)
        return name

    def matches(self, tensors: Tensors, prefix: str) -> bool:
        """Whether these are the tensors of this network."""
        first = tensors.get(prefix + self.external_name(self.stem))
        return prefix + self.signature in tensors and first is not None and first.shape[-1:] == (self.kernel,)


@dataclass(frozen=True)
class _ExternalTensors:
    """A published state dict, looked into by internal names."""

    source: str
    format: ExternalFormat
    prefix: str
    tensors: Tensors

    def name(self, internal_name: str) -> str:
        return self.prefix + self.format.external_name(internal_name)

    def channels(self, internal_name: str) -> tuple[int, int]:
        """Of a convolution: outputs and inputs."""
        name = self.name(internal_name)
        found = tuple(self.tensors[name].shape) if name in self.tensors else "nothing"
        if len(found) != 4 or 0 in found:
            raise UserError(
                f"{self.source}: tensor {name}: found {found}, expected the weights of a convolution"
            )
        return int(found[0]), int(found[1])

    def count(self, internal_name: str) -> int:
        """How many there are of tensors numbered from 0, `{}` in the name being the number."""
        for number in range(MAX_LAYERS + 1):
            if self.name(internal_name.format(number)) not in self.tensors:
                return number
        name = self.name(internal_name.format(MAX_LAYERS))
        raise UserError(f"{self.source}: tensor {name}: expected at most {MAX_LAYERS} of its kind")


@dataclass(frozen=True)
class Published:
    """Published weights, read.

    Settings: what our network of that kind is built from. tensors: our state dict.
    """

    format: ExternalFormat
    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    def network(self) -> nn.Module:
        """Our network with these weights, in evaluation mode."""
        network = _without_memory(self.format, self.settings)
        network.load_state_dict(self.tensors, assign=True)
        return network.eval()


# External names


def _residual_rules(*, stem: Mapping[int, str], match: str, outermost: int) -> Rules:
    """For networks that keep an hourglass as a table, `hg.STACK.hg.SCALE.PLACE`, where ours is nested.

    outermost: row of the largest scale.
    """
    rules = [(rf"^stem\.{place}\.", f"{name}.") for place, name in stem.items()]
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
    """For the networks of associative embedding.

    conv, in_hourglass: what stands between a layer's name and `weight`.
    """
    return [
        *((rf"^stem\.{place}\.0\.", f"{name}.{conv}") for place, name in stem.items()),
        *(
            (rf"^necks\.(\d+)\.{place}\.0\.", rf"features.\1.{name}.{conv}")
            for place, name in enumerate(neck)
        ),
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


# What a network is built from, as the sizes of its tensors tell


def _residual_settings(second: str, third: str, outputs: str) -> Callable[[_ExternalTensors], dict[str, Any]]:
    """second, third: internal names of the two residuals in the stem.

    Outputs: what the network calls its channels.
    """

    def settings(found: _ExternalTensors) -> dict[str, Any]:
        channels, features = found.channels("heads.0.weight")
        names = ("stem.0.weight", f"{second}.conv3.weight", f"{third}.conv3.weight")
        return {
            outputs: channels,
            "stacks": found.count("heads.{}.weight"),
            "modules": found.count("necks.0.0.{}.conv1.weight"),
            "features": features,
            "stem": [found.channels(name)[0] for name in names],
        }

    return settings


def _ae_settings(found: _ExternalTensors) -> dict[str, Any]:
    outputs, features = found.channels("heads.0.weight")
    wider = found.channels("hourglasses.0.before.0.weight")[0]
    if wider < features:
        name = found.name("hourglasses.0.before.0.weight")
        raise UserError(
            f"{found.source}: tensor {name}: found {wider} channels, expected at least {features}"
        )
    return {
        "outputs": outputs,
        "stacks": found.count("heads.{}.weight"),
        "features": features,
        "increase": wider - features,
        "stem": [found.channels(f"stem.{place}.0.weight")[0] for place in (0, 1, 3)],
    }


_BEARPAW_STEM = {0: "conv1", 1: "bn1", 3: "layer1.0", 5: "layer2.0", 6: "layer3.0"}
_ROYTSENG_STEM = {0: "conv1", 1: "bn1", 3: "res1", 5: "res2", 6: "res3"}
_DISCRIMINATOR_STEM = {0: "conv1", 1: "bn1", 3: "res1", 4: "res2", 5: "res3"}
_ROYTSENG_AE_STEM = {0: "head.0", 1: "head.2", 3: "head.5", 4: "head.7"}
_UMICH_STEM = {0: "pre.0", 1: "pre.1", 3: "pre.3", 4: "pre.4"}

_FORMATS = (
    ExternalFormat(
        name="bearpaw_hg",
        network=StackedHourglass,
        settings=_residual_settings("stem.3", "stem.5", "outputs"),
        rules=_residual_rules(stem=_BEARPAW_STEM, match="downsample.0", outermost=3),
        signature="layer1.0.conv1.weight",
        stem="stem.0.weight",
        kernel=7,
        key="state_dict",
        mean=(0.4404, 0.4440, 0.4327),  # of MPII's training images
    ),
    ExternalFormat(
        name="roytseng_hgpose",
        network=StackedHourglass,
        settings=_residual_settings("stem.3", "stem.5", "outputs"),
        rules=_residual_rules(stem=_ROYTSENG_STEM, match="conv_skip", outermost=0),
        signature="res1.conv1.weight",
        stem="stem.0.weight",
        kernel=7,
        key="netHg",
    ),
    ExternalFormat(
        name="roytseng_discriminator",
        network=Discriminator,
        settings=_residual_settings("stem.3", "stem.4", "joints"),
        rules=_residual_rules(stem=_DISCRIMINATOR_STEM, match="conv_skip", outermost=0),
        signature="res1.conv1.weight",
        stem="stem.0.weight",
        kernel=3,
        key="netD",
    ),
    ExternalFormat(
        name="roytseng_hgpose_ae",
        network=AEHourglass,
        settings=_ae_settings,
        rules=_ae_rules(stem=_ROYTSENG_AE_STEM, conv="", in_hourglass="0.0.", neck=("1", "3")),
        signature="head.0.weight",
        stem="stem.0.0.weight",
        kernel=7,
        key="netHg",
    ),
    ExternalFormat(
        name="umich_pose_ae",
        network=AEHourglass,
        settings=_ae_settings,
        rules=_ae_rules(stem=_UMICH_STEM, conv="conv.", in_hourglass="conv.", neck=("1", "2")),
        signature="pre.0.conv.weight",
        stem="stem.0.0.weight",
        kernel=7,
        key="state_dict",
        prefix="module.model.",
    ),
)
EXTERNAL_FORMATS = {format.name: format for format in _FORMATS}

# The conventions by which the published networks were trained.
SINGLE_INFERENCE = {"input_size": 256, "crop": 1.25, "sigma": 1.0, "target": "floor", "loss": "mse"}
MULTI_INFERENCE = {
    "input_size": 512,
    "target": "floor",
    "loss": "mse",
    "tag_gain": 1.0,
    "thresholds": {"tune": False, "detection": 0.1, "tag": 1.0, "max_distance": 0.5},
}


def read_published(source: str | Path | Mapping[str, Any], kind: str | None = None) -> Published:
    """Read a published checkpoint or state dict; which network it is and of what size, its tensors tell.

    source: a file, or what such a file holds. kind: a key of `EXTERNAL_FORMATS`, to insist on that network
    or, in a checkpoint of several, to choose (a pose network goes before a discriminator). UserError naming
    the file, the tensor, what was found and what was expected.
    """
    if isinstance(source, Mapping):
        content, name = source, "state dict"
    else:
        content, name = load_torch(source, "a published checkpoint"), str(source)
    if kind is not None:
        _format(kind)
    recognised = [found for tensors in _state_dicts(content) for found in _recognise(tensors, name)]
    for found in recognised:
        if kind in (None, found.format.name):
            return _translate(found)
    if recognised:
        raise UserError(
            f"{name}: found {' and '.join(one.format.name for one in recognised)}, expected {kind}"
        )
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        expected = f"a published checkpoint ({', '.join(EXTERNAL_FORMATS)})"
        raise UserError(f"{name}: found this project's own model weights, expected {expected}")
    expected = f"the tensors of one of: {', '.join(EXTERNAL_FORMATS)}"
    raise UserError(f"{name}: found {_describe(content)}, expected {expected}")


def export_weights(tensors: Tensors, kind: str) -> dict[str, Tensor]:
    """Our state dict under external names (`kind`, a key of `EXTERNAL_FORMATS`).

    UserError if it is of another architecture. Names fit networks of any width; the published codes
    themselves build theirs with stems of 64, 128, 128 (bearpaw: 256) channels.
    """
    format = _format(kind)
    external = {format.external_name(name): tensor for name, tensor in tensors.items()}
    if not format.matches(external, prefix=""):
        expected = (
            f"the tensors of our {format.network.__name__} with a stem of three numbers, as {kind} has it"
        )
        raise UserError(f"state dict: found {_describe(tensors)}, expected {expected}")
    _translate(_ExternalTensors("state dict", format, "", external))
    return external


def export_file(weights: str | Path, out: str | Path, kind: str) -> None:
    """Write model weights as a checkpoint that a published code reads; its `mean` is left to its user.

    UserError, naming the file, also for maps that the published codes would misread: they take the network's
    output as heatmaps and tags as they are, where ours may be logits, or tags to be multiplied.
    """
    format, source = _format(kind), load_weights(weights)
    loss, gain = source.inference.get("loss"), source.inference.get("tag_gain", 1)
    if loss != "mse":
        found = f"taught with loss: {loss}, whose maps are logits"
        raise UserError(f"{weights}: {found}; {kind} expects heatmaps (loss: mse)")
    if gain != 1:
        raise UserError(
            f"{weights}: taught with tag_gain: {gain:g}; {kind} expects tags as they are (tag_gain: 1.0)"
        )
    try:
        external = export_weights(source.tensors, kind)
    except UserError as error:
        raise UserError(f"{weights}: {error}") from None
    tensors = {format.prefix + name: tensor.detach().cpu().contiguous() for name, tensor in external.items()}
    save_torch(out, {format.key: tensors})


def import_file(
    source: str | Path, out: str | Path, *, task: str | None = None, kind: str | None = None
) -> Published:
    """Write a published pose network as model weights; `out` is untouched on any error.

    task: by default `hgpose` or `hgpose-ae`, by the network.
    """
    published = read_published(source, kind)
    settings, network = published.settings, published.format.network
    if network is StackedHourglass:
        if settings["outputs"] != len(MPII):
            raise UserError(f"{source}: found {settings['outputs']} joints, expected the {len(MPII)} of MPII")
        values = {"kind": "hourglass"} | {key: value for key, value in settings.items() if key != "outputs"}
        weights = Weights(
            task=task or "hgpose",
            problem="single",
            network=parse(HourglassParams, values, f"{source}: network"),
            outputs=len(MPII),
            skeleton=MPII,
            inference=SINGLE_INFERENCE,
            tensors=published.tensors,
            mean=published.format.mean,
        )
    elif network is AEHourglass:
        weights = Weights(
            task=task or "hgpose-ae",
            problem="multi",
            network=parse(AEHourglassParams, {"kind": "ae"} | settings, f"{source}: network"),
            outputs=2 * len(COCO),
            skeleton=COCO,
            inference=MULTI_INFERENCE,
            tensors=published.tensors,
            mean=published.format.mean,
        )
    else:
        raise UserError(f"{source}: found {published.format.name}, expected a pose network")
    save_weights(out, weights)
    return published


def _format(kind: str) -> ExternalFormat:
    if kind not in EXTERNAL_FORMATS:
        raise UserError(f"kind: found {kind!r}, expected one of: {', '.join(EXTERNAL_FORMATS)}")
    return EXTERNAL_FORMATS[kind]


def _state_dicts(content: Any) -> Iterator[Tensors]:
    """State dicts in a checkpoint.

    Pose networks first, a discriminator last, whatever key they are kept under.
    """
    if not isinstance(content, Mapping):
        return
    for candidate in (content.get("netHg"), content.get("state_dict"), content, content.get("netD")):
        if isinstance(candidate, Mapping):
            named = ((name, value) for name, value in candidate.items() if isinstance(name, str))
            yield {name: value for name, value in named if isinstance(value, Tensor)}


def _recognise(tensors: Tensors, source: str) -> Iterator[_ExternalTensors]:
    for format, prefix in itertools.product(EXTERNAL_FORMATS.values(), PREFIXES):
        if format.matches(tensors, prefix):
            check_tensors(tensors, source)
            yield _ExternalTensors(source, format, prefix, tensors)


def _translate(found: _ExternalTensors) -> Published:
    """A recognised state dict as ours, tensor by tensor, every one of them used."""
    format, source = found.format, found.source
    settings = format.settings(found)
    tensors: dict[str, Tensor] = {}
    for internal_name, expected in _without_memory(format, settings).state_dict().items():
        name = found.name(internal_name)
        tensor = found.tensors.get(name)
        if tensor is None and internal_name.endswith("num_batches_tracked"):
            tensor = torch.zeros_like(expected, device="cpu")  # torch before 0.4.1 had none
        shape = "nothing" if tensor is None else tuple(tensor.shape)
        if tensor is None or shape != tuple(expected.shape):
            raise UserError(
                f"{source}: tensor {name}: found {shape}, expected {tuple(expected.shape)} ({format.name})"
            )
        copied = tensor.detach().to(device="cpu", dtype=expected.dtype, copy=True)
        tensors[internal_name] = copied.contiguous()
    unknown = sorted(set(found.tensors) - {found.name(name) for name in tensors})
    if unknown:
        raise UserError(
            f"{source}: tensor {unknown[0]}: not part of {format.name} of {settings['stacks']} stacks"
        )
    return Published(format, settings, tensors)


def _without_memory(format: ExternalFormat, settings: Mapping[str, Any]) -> nn.Module:
    """The network with no memory behind its tensors: nothing is drawn, no random generator is moved."""
    with torch.device("meta"):
        return format.network(**settings)


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    names = [str(name) for name in content]
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "nothing"
