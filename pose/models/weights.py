"""Model weights: a trained network with all that inference needs (`models/TASK/last.pt` and `best.pt`).

A file holds no time, path or run id, so that equal runs write equal files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, JsonValue
from torch import Tensor

from pose.io.errors import DamagedFileError
from pose.io.schema import Frozen, parse
from pose.io.torch_file import check_architecture, check_tensors, load_torch, save_torch
from pose.keypoints.skeleton import Skeleton
from pose.models.blocks import PoseNetwork
from pose.models.networks import NetworkParams

FORMAT = "pose-weights-4"
ProblemKind = Literal["single", "multi"]
NO_MEAN = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Weights:
    """Model weights of a task.

    problem: `single` (one person a crop) or `multi` (all people of an image). outputs: channels of the
    network. inference: the problem's inference parameters (input size, thresholds ...), plain values. mean:
    colour (RGB, 0 to 1) that is subtracted from images. provenance: parameters, hashes of data and code,
    torch and device of the training, plain values; empty for weights from elsewhere.
    """

    task: str
    problem: ProblemKind
    network: NetworkParams
    outputs: int
    skeleton: Skeleton
    inference: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    mean: tuple[float, float, float] = NO_MEAN
    provenance: Mapping[str, Any] = field(default_factory=dict)


class _Header(Frozen):
    """All of a file but its format and tensors."""

    task: str
    problem: ProblemKind
    network: NetworkParams
    outputs: int
    skeleton: Skeleton
    inference: dict[str, JsonValue]
    mean: Annotated[tuple[float, float, float], Field(strict=False)]  # torch.save keeps it as a list
    provenance: dict[str, JsonValue]


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write model weights; UserError if the file cannot be written."""
    header = _Header.model_validate({name: getattr(weights, name) for name in _Header.model_fields})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.tensors.items()}
    save_torch(path, {"format": FORMAT, **header.model_dump(mode="json"), "tensors": tensors})


def load_weights(path: str | Path) -> Weights:
    """Read model weights; UserError naming the file if it is missing, damaged or something else."""
    kind = "model weights (models/TASK/last.pt or best.pt)"
    content = load_torch(path, kind)
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise DamagedFileError(f"{path}: found {found!r}, expected {kind} ({FORMAT})")
    values = {key: value for key, value in content.items() if key not in ("format", "tensors")}
    header = parse(_Header, values, str(path))
    check_tensors(content.get("tensors"), path)
    fields = {name: getattr(header, name) for name in _Header.model_fields}
    return Weights(**fields, tensors=content["tensors"])


def build_network(weights: Weights, source: str | Path, device: torch.device) -> PoseNetwork:
    """The network of these weights, in evaluation mode; UserError, naming the source, if they do not fit."""
    with torch.device("meta"):  # no memory yet: a file may ask for a larger network than it holds
        net = weights.network.build(weights.outputs)
    check_architecture(net, weights.tensors, source)
    net.to_empty(device=device).load_state_dict(dict(weights.tensors))
    return net.eval()
