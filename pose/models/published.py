"""Published weights, read into our networks and written back (see `pose.models.external_formats`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
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
from pose.models.external_formats import EXTERNAL_FORMATS, ExternalFormat, ExternalTensors, Tensors
from pose.models.hourglass import StackedHourglass
from pose.models.networks import AEHourglassParams, HourglassParams
from pose.models.weights import FORMAT, Weights, load_weights, save_weights

PREFIXES = ("", "module.", "model.", "module.model.")  # what DataParallel and trainers put before each name

# The conventions by which the published networks were trained.
SINGLE_INFERENCE = {"input_size": 256, "crop": 1.25, "sigma": 1.0, "target": "floor", "loss": "mse"}
MULTI_INFERENCE = {
    "input_size": 512,
    "target": "floor",
    "loss": "mse",
    "tag_gain": 1.0,
    "thresholds": {"tune": False, "detection": 0.1, "tag": 1.0, "max_distance": 0.5},
}


@dataclass(frozen=True)
class Published:
    """Published weights. settings: what our network is built from. tensors: our state dict."""

    format: ExternalFormat
    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    def network(self) -> nn.Module:
        """Our network with these weights, in evaluation mode."""
        network = _without_memory(self.format, self.settings)
        network.load_state_dict(self.tensors, assign=True)
        return network.eval()


def read_published(source: str | Path | Mapping[str, Any], kind: str | None = None) -> Published:
    """Read a published checkpoint or state dict; its tensors show which network it is and of what size.

    source: a file, or what such a file holds. kind: a key of `EXTERNAL_FORMATS`, to insist on that network or
    to choose it in a checkpoint of several (by default a pose network). UserError naming file and tensor.
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
        formats = " and ".join(found.format.name for found in recognised)
        raise UserError(f"{name}: found {formats}, expected {kind}")
    known = ", ".join(EXTERNAL_FORMATS)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        found_own = "this project's own model weights"
        raise UserError(f"{name}: found {found_own}, expected a published checkpoint ({known})")
    raise UserError(f"{name}: found {_describe(content)}, expected the tensors of one of: {known}")


def export_weights(tensors: Tensors, kind: str) -> dict[str, Tensor]:
    """Our state dict under external names; UserError if it is of another architecture than `kind`.

    The published codes themselves build their networks with stems of 64, 128, 128 (bearpaw: 256) channels.
    """
    format = _format(kind)
    external = {format.external_name(name): tensor for name, tensor in tensors.items()}
    if not format.matches(external, prefix=""):
        network = format.network.__name__
        expected = f"the tensors of our {network} with a stem of three numbers, as {kind} has it"
        raise UserError(f"state dict: found {_describe(tensors)}, expected {expected}")
    _translate(ExternalTensors("state dict", format, "", external))
    return external


def export_file(weights: str | Path, out: str | Path, kind: str) -> None:
    """Write model weights as a checkpoint that a published code reads; it does not carry `mean`.

    UserError, naming the file, also for maps that the published codes would misread: they take the network's
    output as heatmaps and tags, where this project may have logits, or tags to be multiplied.
    """
    format, source = _format(kind), load_weights(weights)
    loss, gain = source.inference.get("loss"), source.inference.get("tag_gain", 1)
    if loss != "mse":
        found = f"trained with loss: {loss}, whose maps are logits"
        raise UserError(f"{weights}: {found}; {kind} expects heatmaps (loss: mse)")
    if gain != 1:
        expected = f"{kind} expects tags as they are (tag_gain: 1.0)"
        raise UserError(f"{weights}: trained with tag_gain: {gain:g}; {expected}")
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
    settings, network = dict(published.settings), published.format.network
    weights: dict[str, Any] = {"tensors": published.tensors, "mean": published.format.mean}
    if network is StackedHourglass:
        outputs = settings.pop("outputs")
        if outputs != len(MPII):
            raise UserError(f"{source}: found {outputs} joints, expected the {len(MPII)} of MPII")
        weights |= {"problem": "single", "skeleton": MPII, "inference": SINGLE_INFERENCE, "outputs": outputs}
        weights["network"] = parse(HourglassParams, {"kind": "hourglass"} | settings, f"{source}: network")
    elif network is AEHourglass:
        outputs = 2 * len(COCO)
        weights |= {"problem": "multi", "skeleton": COCO, "inference": MULTI_INFERENCE, "outputs": outputs}
        weights["network"] = parse(AEHourglassParams, {"kind": "ae"} | settings, f"{source}: network")
    else:
        raise UserError(f"{source}: found {published.format.name}, expected a pose network")
    default = "hgpose" if weights["problem"] == "single" else "hgpose-ae"
    save_weights(out, Weights(task=task or default, **weights))
    return published


def _format(kind: str) -> ExternalFormat:
    if kind not in EXTERNAL_FORMATS:
        raise UserError(f"kind: found {kind!r}, expected one of: {', '.join(EXTERNAL_FORMATS)}")
    return EXTERNAL_FORMATS[kind]


def _state_dicts(content: Any) -> Iterator[Tensors]:
    """State dicts in a checkpoint, pose networks before a discriminator."""
    if not isinstance(content, Mapping):
        return
    for candidate in (content.get("netHg"), content.get("state_dict"), content, content.get("netD")):
        if isinstance(candidate, Mapping):
            named = ((name, value) for name, value in candidate.items() if isinstance(name, str))
            yield {name: value for name, value in named if isinstance(value, Tensor)}


def _recognise(tensors: Tensors, source: str) -> Iterator[ExternalTensors]:
    for format, prefix in itertools.product(EXTERNAL_FORMATS.values(), PREFIXES):
        if format.matches(tensors, prefix):
            check_tensors(tensors, source)
            yield ExternalTensors(source, format, prefix, tensors)


def _translate(found: ExternalTensors) -> Published:
    """A recognised state dict with internal names; each of its tensors must be used."""
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
            should = f"expected {tuple(expected.shape)} ({format.name})"
            raise UserError(f"{source}: tensor {name}: found {shape}, {should}")
        copied = tensor.detach().to(device="cpu", dtype=expected.dtype, copy=True)
        tensors[internal_name] = copied.contiguous()
    unknown = sorted(set(found.tensors) - {found.name(name) for name in tensors})
    if unknown:
        network = f"{format.name} of {settings['stacks']} stacks"
        raise UserError(f"{source}: tensor {unknown[0]}: not part of {network}")
    return Published(format, settings, tensors)


def _without_memory(format: ExternalFormat, settings: Mapping[str, Any]) -> nn.Module:
    """The network on the meta device: nothing is allocated or drawn."""
    with torch.device("meta"):
        return format.network(**settings)


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    names = [str(name) for name in content]
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "nothing"
