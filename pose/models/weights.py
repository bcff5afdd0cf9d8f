"""Model weights: a trained network with all that inference needs (`models/TASK/last.pt` and `best.pt`).

A file holds no time, path or run id, so that equal runs write equal files. Its name says whether it is of
torch.save or of safetensors. There all but the tensors is JSON in the header's metadata, under key `pose`.
"""

from __future__ import annotations

import json
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from pose.io.errors import DamagedFileError, installed, reading
from pose.io.files import atomic_write, check_regular_file
from pose.io.schema import explain
from pose.io.torch_file import check_architecture, check_tensors, load_torch, save_torch
from pose.keypoints.skeleton import Skeleton
from pose.models.blocks import PoseNetwork
from pose.models.init import InitialWeights
from pose.models.networks import NetworkParams

FORMAT = "pose-weights-5"
SAFETENSORS, KEY = ".safetensors", "pose"
WEIGHTS_SUFFIXES = (".pt", ".pth", SAFETENSORS)  # any but the last is of torch.save
EXPORTED = {".onnx": "an ONNX network", ".pt2": "a program of torch.export"}
ProblemKind = Literal["single", "multi"]
NO_MEAN = (0.0, 0.0, 0.0)


@dataclass(frozen=True, config=ConfigDict(arbitrary_types_allowed=True, extra="forbid"))
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
    inference: dict[str, Any]
    tensors: dict[str, Tensor]
    mean: tuple[float, float, float] = NO_MEAN
    provenance: dict[str, Any] = field(default_factory=dict)


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write model weights; UserError if the file cannot be written."""
    values = TypeAdapter(Weights).dump_python(weights, mode="json", exclude={"tensors"})
    values = {"format": FORMAT, **values}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.tensors.items()}
    if Path(path).suffix == SAFETENSORS:
        data = _safetensors(path).torch.save(tensors, metadata={KEY: json.dumps(values)})
        with atomic_write(path, sync=True) as temporary:
            temporary.write_bytes(data)
    else:
        save_torch(path, {**values, "tensors": tensors})


def load_weights(path: str | Path) -> Weights:
    """Read model weights; UserError naming the file if it is missing, damaged or something else."""
    kind = "model weights (models/TASK/last.pt or best.pt)"
    if found := EXPORTED.get(Path(path).suffix.lower()):
        check_regular_file(path, kind)
        raise DamagedFileError(f"{path}: found {found}, expected weights (.pt or {SAFETENSORS})")
    is_safetensors = Path(path).suffix == SAFETENSORS
    content = _load_safetensors(path, kind) if is_safetensors else load_torch(path, kind)
    found = content.pop("format", None) if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise DamagedFileError(f"{path}: found {found!r}, expected {kind} ({FORMAT})")
    try:
        weights = Weights(**content)
    except ValidationError as error:
        raise DamagedFileError(f"{path}: {explain(error, content)}") from None
    check_tensors(weights.tensors, path)
    return weights


def _load_safetensors(path: str | Path, kind: str) -> dict[str, Any]:
    library = _safetensors(path)
    check_regular_file(path, kind)
    with reading(path, kind), library.safe_open(path, framework="pt") as file:
        values = json.loads((file.metadata() or {}).get(KEY, "{}"))
        return {**values, "tensors": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118


def _safetensors(path: str | Path) -> Any:
    with installed(f"for {path}: pip install 'pose[safetensors]'"):
        import safetensors.torch
    return safetensors


def build_network(weights: Weights, source: str | Path, device: torch.device) -> PoseNetwork:
    """The network of these weights, in evaluation mode; UserError, naming the source, if they do not fit."""
    with torch.device("meta"):  # no memory yet: a file may name a network that is far too large
        check_architecture(weights.network.build(weights.outputs), weights.tensors, source)
    with InitialWeights(0):  # anew, for buffers that no file has, such as coordinates
        net = weights.network.build(weights.outputs)
    net.load_state_dict(weights.tensors)
    return net.to(device).eval()
