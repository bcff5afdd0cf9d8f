"""Published weights, read into our networks and written back (see `pose.models.external_formats`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.io.errors import UserError
from pose.io.files import check_target
from pose.io.schema import parse
from pose.io.torch_file import check_tensors, load_torch, save_torch
from pose.keypoints.skeleton import built_in
from pose.models.ae_hourglass import AEHourglass
from pose.models.external_formats import EXTERNAL_FORMATS, ExternalFormat, Tensors
from pose.models.hourglass import StackedHourglass
from pose.models.networks import AEHourglassParams, HourglassParams, NetworkParams
from pose.models.weights import FORMAT, WEIGHTS_SUFFIXES, Weights, load_weights, save_weights

PUBLISHED_SUFFIXES = (".pt", ".pth", ".tar")  # of files of torch.save

# The conventions by which the published networks were trained.
SINGLE_INFERENCE = {"input_size": 256, "crop": 1.25, "sigma": 1.0, "target": "floor", "loss": "mse"}
MULTI_INFERENCE = {
    "input_size": 512,
    "target": "floor",
    "loss": "mse",
    "tag_gain": 1.0,
    "thresholds": {"tune": False, "group_by": "tags", "detection": 0.1, "tag": 1.0, "max_distance": 0.5},
}


@dataclass(frozen=True)
class Published:
    """Published weights. settings: what our network is built from. tensors: our state dict."""

    format: ExternalFormat
    settings: dict[str, Any]
    tensors: dict[str, Tensor]

    def network(self) -> nn.Module:
        """Our network with these weights, in evaluation mode."""
        network = _network_without_memory(self.format, self.settings)
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
    expected = "expected a published checkpoint" if kind is None else f"expected {_format(kind).name}"
    recognised = [
        (format, tensors)
        for tensors in _state_dicts(content)
        for format in EXTERNAL_FORMATS.values()
        if format.matches(tensors)
    ]
    for format, tensors in recognised:
        if kind in (None, format.name):
            check_tensors(tensors, name)
            try:
                return _translate(format, tensors)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None
    if recognised:
        found = " and ".join(format.name for format, _ in recognised)
    elif isinstance(content, Mapping) and content.get("format") == FORMAT:
        found = "this project's own model weights"
    elif any(_state_dicts(content)):
        found = f"found tensors of an unknown layout ({_describe(next(filter(None, _state_dicts(content))))})"
        raise UserError(f"{name}: {found}; these are known: {', '.join(EXTERNAL_FORMATS)}")
    else:
        found = _describe(content)
    raise UserError(f"{name}: found {found}, {expected} ({', '.join(EXTERNAL_FORMATS)})")


def export_weights(tensors: Tensors, kind: str) -> dict[str, Tensor]:
    """Our state dict under external names; UserError if it is of another architecture than `kind`.

    The published codes themselves build their networks with stems of 64, 128, 128 (bearpaw: 256) channels.
    """
    format = _format(kind)
    external = {format.external_name(name): tensor for name, tensor in tensors.items()}
    if not format.matches(external):
        expected = f"the tensors of our {format.network.__name__} with a stem of three numbers"
        raise UserError(f"found {_describe(tensors)}, expected {expected} ({kind})")
    _translate(format, external)
    return external


def export_file(weights: str | Path, out: str | Path, kind: str) -> None:
    """Write model weights as a checkpoint that a published code reads.

    UserError, naming the file, also for what the published codes would take for something else: they subtract
    the mean of their own, and take the network's output as heatmaps and tags, where this project may have
    logits, or tags to be multiplied.
    """
    format = _format(kind)
    check_target(out, weights, PUBLISHED_SUFFIXES)
    source = load_weights(weights)
    loss, gain = source.inference["loss"], source.inference.get("tag_gain", 1)
    if loss != "mse" or gain != 1:
        found = f"loss: {loss}" if loss != "mse" else f"tag_gain: {gain:g}"
        expected = "loss: mse and tag_gain: 1.0, since it takes maps and tags as they are"
        raise UserError(f"{weights}: trained with {found}; {kind} expects {expected}")
    try:
        external = export_weights(source.tensors, kind)
    except UserError as error:
        raise UserError(f"{weights}: {error}") from None
    if source.mean != format.mean:
        found, expected = (", ".join(f"{value:g}" for value in mean) for mean in (source.mean, format.mean))
        raise UserError(f"{weights}: found mean {found}, expected {expected}, which {kind} subtracts")
    save_torch(out, {format.key: {format.prefix + name: tensor for name, tensor in external.items()}})


def import_file(
    source: str | Path, out: str | Path, *, task: str | None = None, kind: str | None = None
) -> Published:
    """Write a published pose network as model weights; `out` is untouched on any error.

    task: by default `hgpose` or `hgpose-ae`, by the network.
    """
    check_target(out, source, WEIGHTS_SUFFIXES)
    published = read_published(source, kind)
    format, settings, where = published.format, dict(published.settings), f"{source}: network"
    weights: dict[str, Any] = {"tensors": published.tensors, "mean": format.mean}
    if format.network is StackedHourglass:
        outputs = settings.pop("outputs")
        mpii = built_in("mpii")
        if outputs != len(mpii):
            raise UserError(f"{source}: found {outputs} joints, expected the {len(mpii)} of MPII")
        weights |= {"task": "hgpose", "problem": "single", "skeleton": mpii, "inference": SINGLE_INFERENCE}
        network: NetworkParams = parse(HourglassParams, {"kind": "hourglass"} | settings, where)
    elif format.network is AEHourglass:
        coco = built_in("coco")
        outputs = 2 * len(coco)
        weights |= {"task": "hgpose-ae", "problem": "multi", "skeleton": coco, "inference": MULTI_INFERENCE}
        network = parse(AEHourglassParams, {"kind": "ae"} | settings, where)
    else:
        raise UserError(f"{source}: found {format.name}, expected a pose network")
    weights |= {"task": task} if task else {}
    save_weights(out, Weights(network=network, outputs=outputs, **weights))
    return published


def _format(kind: str) -> ExternalFormat:
    if kind not in EXTERNAL_FORMATS:
        raise UserError(f"kind: found {kind!r}, expected one of: {', '.join(EXTERNAL_FORMATS)}")
    return EXTERNAL_FORMATS[kind]


def _state_dicts(content: Any) -> Iterator[Tensors]:
    """State dicts in a checkpoint, pose networks before a discriminator.

    Names are without what DataParallel and trainers put before each.
    """
    if not isinstance(content, Mapping):
        return
    for candidate in (content.get("netHg"), content.get("state_dict"), content, content.get("netD")):
        if isinstance(candidate, Mapping):
            tensors = {str(name): value for name, value in candidate.items() if isinstance(value, Tensor)}
            yield {name.removeprefix("module.").removeprefix("model."): tensors[name] for name in tensors}


def _translate(format: ExternalFormat, external: Tensors) -> Published:
    """A recognised state dict with internal names; each of its tensors must be used."""
    settings = format.settings(external)
    tensors: dict[str, Tensor] = {}
    unknown = set(external)
    for internal_name, expected in _network_without_memory(format, settings).state_dict().items():
        name = format.external_name(internal_name)
        tensor = external.get(name)
        if tensor is None and internal_name.endswith("num_batches_tracked"):
            tensor = torch.zeros((), dtype=torch.int64)  # torch before 0.4.1 had none
        if tensor is None or tensor.shape != expected.shape:
            found = "nothing" if tensor is None else tuple(tensor.shape)
            raise UserError(f"tensor {name}: found {found}, expected {tuple(expected.shape)} ({format.name})")
        tensors[internal_name] = tensor.detach().to("cpu", expected.dtype, copy=True).contiguous()
        unknown.discard(name)
    if unknown:
        raise UserError(f"tensor {min(unknown)}: not part of {format.name} of {settings['stacks']} stacks")
    return Published(format, settings, tensors)


def _network_without_memory(format: ExternalFormat, settings: Mapping[str, Any]) -> nn.Module:
    """The network on the meta device: nothing is allocated or drawn."""
    with torch.device("meta"):
        return format.network(**settings)


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    return ", ".join([str(name) for name in content][:3]) or "nothing"
