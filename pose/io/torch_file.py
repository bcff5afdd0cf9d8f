"""Files written by `torch.save`: atomic and synced; read without running code, and only if undamaged."""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.io.errors import DamagedFileError, UserError
from pose.io.files import atomic_write, check_regular_file

_SIZED = b"bytearray"  # a type that torch loads, of any length that the file declares; no weights have one


def save_torch(path: str | Path, content: Any, *, backup: Path | None = None) -> None:
    """`torch.save`, atomic and synced; equal content gives equal bytes. backup: where the old file goes."""
    # Through memory, since torch.save writes the file's own name into what it saves.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path, sync=True, backup=backup) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_torch(path: str | Path, kind: str) -> Any:
    """Tensors and plain values of a file, on the CPU; kind: what it should be, for messages.

    Nothing whose loading runs code: that, and whatever is damaged or something else, is a DamagedFileError.
    UserError if the file cannot be read at all.
    """
    failed = f"{path}: cannot be read as {kind}"
    check_regular_file(path, kind)
    try:
        if _is_damaged(path):
            raise DamagedFileError(f"{failed}: damaged, or not written by torch")
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise UserError(f"{failed}: larger than the memory") from None
    except UserError:
        raise
    except Exception as error:  # damage raises whatever it leads to: EOFError, KeyError, UnpicklingError, ...
        if isinstance(error, OSError) and error.errno:  # torch's own errors have no number
            raise UserError(f"{failed}: {error.strerror}") from None
        found = re.search(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class:?) (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and found:
            expected = "expected tensors and plain values, since loading others can run code"
            raise DamagedFileError(f"{path}: found a Python object ({found[1]}), {expected}") from None
        raise DamagedFileError(f"{failed}: damaged, or not written by torch") from None


def _is_damaged(path: str | Path) -> bool:
    """Whether a checksum is wrong, which torch ignores, or loading could take more memory than the file.

    Files of torch before 1.6 are not zip archives and have no checksums.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return _SIZED in file.read()
    try:
        with zipfile.ZipFile(path) as archive:
            # torch compresses nothing; a zip bomb is compressed
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                return True
            pickles = [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
            return archive.testzip() is not None or any(_SIZED in one for one in pickles)
    except OSError:
        raise
    except Exception:  # damage raises whatever it leads to: BadZipFile, struct.error, ...
        return True


def check_tensors(tensors: Any, source: str | Path) -> None:
    """UserError unless `tensors` maps names to plain, finite numbers that the file really holds.

    A tensor of stride 0 can declare a billion numbers and hold one.
    """
    if not isinstance(tensors, Mapping):
        raise UserError(
            f"{source}: found tensors of type {type(tensors).__name__}, expected a mapping of names"
        )
    declared, held = 0, dict[int, int]()
    for name, tensor in tensors.items():
        where = f"{source}: tensor {name}"
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            found = f"found a {type(tensor).__name__}"
            raise UserError(f"{source}: tensor {name!r}: {found}, expected a tensor by name")
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            found = "one without numbers" if tensor.is_meta else f"one of {tensor.dtype}, {tensor.layout}"
            raise UserError(f"{where}: found {found}, expected plain numbers")
        declared += tensor.numel() * tensor.element_size()
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    if declared > sum(held.values()):
        expected = f"expected at most the {sum(held.values()):,} that are in the file"
        raise UserError(f"{source}: found tensors that declare {declared:,} bytes, {expected}")
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{source}: tensor {name}: found numbers that are not finite, expected weights")


def load_tensors(net: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Load tensors into a network; UserError as of `check_architecture`."""
    check_architecture(net, tensors, source)
    net.load_state_dict(dict(tensors))


def check_architecture(net: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """UserError naming the file and the first tensor that does not fit the network."""
    where = f"{source}: of another architecture: tensor"
    expected = net.state_dict()
    for name, tensor in expected.items():
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        if found != tuple(tensor.shape):
            raise UserError(f"{where} {name}: found {found}, expected {tuple(tensor.shape)}")
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise UserError(f"{where} {unknown[0]} is not part of the network")
