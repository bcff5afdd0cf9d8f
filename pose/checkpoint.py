"""Files of a training run: the resume state, and weights for use. Written whole under another name, then renamed; read only if sound.

Resume state (`checkpoints/{task}/state.pt`): everything that the rest of a run depends on, with a fingerprint of what shaped it.
Weights for use (`models/{task}/last.pt`, `best.pt`): the network's tensors, the parameters that it is rebuilt from, and what it was trained
by; no time, no path, no run id, so that equal runs write equal files.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, JsonValue
from torch import Tensor, nn

from pose.errors import Damaged, UserError
from pose.files import written_whole
from pose.params import AEParams, Frozen, HourglassParams, MultiParams, NetworkParams, SingleParams, parse
from pose.task import Model

STATE_FORMAT = "pose-state-3"
WEIGHTS_FORMAT = "pose-weights-3"
_ZIP_START = b"PK\x03\x04"
KEYS = {
    STATE_FORMAT: ("fingerprint", "code", "environment", "net", "optimizer", "adversary", "best", "progress", "tracking"),
    WEIGHTS_FORMAT: ("task", "problem", "network", "params", "mean", "trained", "tensors"),
}


@dataclass(frozen=True)
class Weights:
    """Weights for use: of which task, what the network is built from, what it is shown, and the tensors.

    params: of the problem. mean: colour (RGB, 0 to 1) to take off the images. trained: by what, plain values by name (parameters, hashes of
    data and code, torch, device); empty for weights from elsewhere.
    """

    task: str
    network: HourglassParams | AEParams
    params: SingleParams | MultiParams
    tensors: Mapping[str, Tensor]
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    trained: Mapping[str, Any] = field(default_factory=dict)


def weights_of(model: Model) -> Weights:
    """A model's weights as they are now: the tensors are the network's own, not copies."""
    return Weights(task=model.name, network=model.spec, params=model.problem.params, tensors=model.net.state_dict(), mean=model.mean)


class _Header(Frozen):
    task: str
    problem: Literal["single", "multi"]
    network: NetworkParams
    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    trained: dict[str, JsonValue]


def save_atomically(path: str | Path, content: Any, *, before: Path | None = None) -> None:
    """`torch.save`, synced and renamed: a reader never sees half of it. Equal content gives equal bytes. before: as in `written_whole`."""
    # Through memory, since torch.save writes the file's own name into what it saves.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with written_whole(path, synced=True, before=before) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def save_weights(path: str | Path, weights: Weights) -> None:
    """Write weights for use."""
    save_atomically(
        path,
        {
            "format": WEIGHTS_FORMAT,
            "task": weights.task,
            "problem": "single" if isinstance(weights.params, SingleParams) else "multi",
            "network": weights.network.model_dump(),
            "params": weights.params.model_dump(),
            "mean": list(weights.mean),
            "trained": dict(weights.trained),
            "tensors": {name: tensor.detach().cpu().contiguous() for name, tensor in weights.tensors.items()},
        },
    )


def load_weights(path: str | Path) -> Weights:
    """Read weights for use; UserError naming the file where it is missing, damaged or something else."""
    content = _load(Path(path), WEIGHTS_FORMAT, "weights for use (models/TASK/last.pt or best.pt)")
    header = parse(_Header, {key: content[key] for key in _Header.model_fields}, str(path))
    of_problem: type[SingleParams] | type[MultiParams] = SingleParams if header.problem == "single" else MultiParams
    check_tensors(content["tensors"], path)
    red, green, blue = header.mean
    return Weights(
        task=header.task,
        network=header.network,
        params=parse(of_problem, content["params"], f"{path}: params"),
        tensors=content["tensors"],
        mean=(red, green, blue),
        trained=header.trained,
    )


def check_tensors(tensors: Any, source: str | Path) -> None:
    """UserError for what is no table of plain, finite numbers, or declares more of them than are there: one can stand for a billion."""
    if not isinstance(tensors, Mapping):
        raise UserError(f"{source}: found tensors of type {type(tensors).__name__}, expected them by name")
    declared, held = 0, dict[int, int]()
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(f"{source}: tensor {name!r}: found a {type(tensor).__name__}, expected a tensor by name")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            kind = "without numbers" if tensor.is_meta else f"of {tensor.dtype}, {tensor.layout}"
            raise UserError(f"{source}: tensor {name}: found one {kind}, expected plain numbers")
        declared += tensor.numel() * tensor.element_size()
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    there = sum(held.values())
    if declared > there:
        raise UserError(f"{source}: found tensors that declare {declared:,} bytes, expected at most the {there:,} that are there")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{source}: tensor {name}: found numbers that are not finite, expected weights")


def fill(net: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Load tensors into a network; UserError as `fits` says."""
    fits(net, tensors, source)
    net.load_state_dict(dict(tensors))


def fits(net: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """UserError naming the file and the first tensor that does not fit into a network."""
    expected = net.state_dict()
    for name, tensor in expected.items():
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        if found != tuple(tensor.shape):
            raise UserError(f"{source}: of another architecture: tensor {name}: found {found}, expected {tuple(tensor.shape)}")
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise UserError(f"{source}: of another architecture: tensor {unknown[0]} is not part of the network expected")


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a resume state; Damaged where it is something else or not whole, UserError where it cannot be read."""
    content = _load(Path(path), STATE_FORMAT, "a resume state (checkpoints/TASK/state.pt)")
    for key in ("fingerprint", "code", "environment", "net", "optimizer", "progress", "tracking"):
        if not isinstance(content[key], Mapping):
            raise Damaged(f"{path}: entry {key!r}: found a {type(content[key]).__name__}, expected names and values")
    return content


def _load(path: Path, format: str, kind: str) -> dict[str, Any]:
    content = read_torch(path, kind)
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != format:
        raise Damaged(f"{path}: found {found!r}, expected {kind} ({format})")
    missing = [key for key in KEYS[format] if key not in content]
    if missing:
        raise Damaged(f"{path}: no entry {missing[0]!r}, expected {kind}")
    return content


def read_torch(path: Path, kind: str) -> Any:
    """Tensors and plain values of a file; never anything whose loading runs code. UserError naming the file, Damaged if it is something
    else or not whole; kind: what it should be."""
    damaged = f"{path}: cannot be read as {kind}: damaged, or not written by torch"
    try:
        if _is_damaged(path):
            raise Damaged(damaged)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected {kind}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected {kind}") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class:?) (\S+)", str(error))
        if found is None:
            raise Damaged(damaged) from None
        raise Damaged(
            f"{path}: found a Python object ({found[1]}), expected tensors and plain values, for loading other things can run code:"
            " save the state dict alone with the code that wrote it"
        ) from None
    except UserError:
        raise
    except (EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, AssertionError):
        raise Damaged(damaged) from None
    except MemoryError:
        raise UserError(f"{path}: cannot be read as {kind}: larger than can be had") from None
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        unreadable = isinstance(error, OSError) and error.errno  # the disk's or the system's word; torch's has no number
        raise (UserError if unreadable else Damaged)(f"{path}: cannot be read as {kind}: {reason}") from None


def _is_damaged(path: Path) -> bool:
    """Whether the checksums in the zip archive that torch writes are wrong: torch does not look at them, and would load wrong numbers.

    Files that are no such archive (as torch before 1.6 wrote) have none.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())  # torch packs nothing; a bomb is packed
            return packed or archive.testzip() is not None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError, OverflowError, RuntimeError):
        return True
