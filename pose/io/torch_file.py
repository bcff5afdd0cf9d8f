"""Files written by `torch.save`.

Atomic and synced when written; read without running code, and only if undamaged.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.io.errors import DamagedFileError, UserError
from pose.io.files import atomic_write

_ZIP_START = b"PK\x03\x04"


def save_torch(path: str | Path, content: Any, *, backup: Path | None = None) -> None:
    """`torch.save`, synced and renamed.

    Equal content gives equal bytes. backup: where the replaced file is kept.
    """
    # Through memory, since torch.save writes the file's own name into what it saves.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path, sync=True, backup=backup) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_torch(path: str | Path, kind: str) -> Any:
    """Tensors and plain values of a file, on the CPU; nothing whose loading runs code.

    Kind: what it should be.

    UserError naming the file if it cannot be read, DamagedFileError if it holds something else or is not
    whole.
    """
    damaged = f"{path}: cannot be read as {kind}: damaged, or not written by torch"
    try:
        if _has_wrong_checksum(Path(path)):
            raise DamagedFileError(damaged)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected {kind}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, expected {kind}") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class:?) (\S+)", str(error))
        if found is None:
            raise DamagedFileError(damaged) from None
        raise DamagedFileError(
            f"{path}: found a Python object ({found[1]}), expected tensors and plain values, for loading other things"
            " can run code: save the state dict alone with the code that wrote it"
        ) from None
    except UserError:
        raise
    except (
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        AssertionError,
    ):
        raise DamagedFileError(damaged) from None
    except MemoryError:
        raise UserError(f"{path}: cannot be read as {kind}: larger than the memory") from None
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        from_system = isinstance(error, OSError) and error.errno  # torch's own errors have no number
        raise (UserError if from_system else DamagedFileError)(
            f"{path}: cannot be read as {kind}: {reason}"
        ) from None


def _has_wrong_checksum(path: Path) -> bool:
    """Whether a checksum in torch's zip archive is wrong; torch does not look at them, and would load wrong numbers.

    Files that are no such archive (torch before 1.6 wrote them) have none.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) != _ZIP_START:
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            # torch compresses nothing; a zip bomb is compressed
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            return packed or archive.testzip() is not None
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError),
        *(ValueError, NotImplementedError, OverflowError, RuntimeError),
    ):
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
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise UserError(
                f"{source}: tensor {name!r}: found a {type(tensor).__name__}, expected a tensor by name"
            )
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.is_complex():
            kind = "without numbers" if tensor.is_meta else f"of {tensor.dtype}, {tensor.layout}"
            raise UserError(f"{source}: tensor {name}: found one {kind}, expected plain numbers")
        declared += tensor.numel() * tensor.element_size()
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    if declared > sum(held.values()):
        found = f"tensors that declare {declared:,} bytes"
        raise UserError(
            f"{source}: found {found}, expected at most the {sum(held.values()):,} that are in the file"
        )
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{source}: tensor {name}: found numbers that are not finite, expected weights")


def load_tensors(net: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Load tensors into a network; UserError as of `check_architecture`."""
    check_architecture(net, tensors, source)
    net.load_state_dict(dict(tensors))


def check_architecture(net: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """UserError naming the file and the first tensor that does not fit the network."""
    expected = net.state_dict()
    for name, tensor in expected.items():
        found = tuple(tensors[name].shape) if name in tensors else "nothing"
        if found != tuple(tensor.shape):
            raise UserError(
                f"{source}: of another architecture: tensor {name}: found {found}, expected {tuple(tensor.shape)}"
            )
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise UserError(f"{source}: of another architecture: tensor {unknown[0]} is not part of the network")
