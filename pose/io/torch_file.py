"""Files written by `torch.save`: atomic and synced; read without running code, and only if undamaged."""

from __future__ import annotations

import errno
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose.io.errors import DamagedFileError, UserError, reading
from pose.io.files import atomic_write, check_regular_file

DAMAGED = "damaged, cut short, or not written by torch"
# Far more than any checkpoint has: the history of 40 million steps. A small file can hold more than memory
# does: one list many times in another, and that many times in a third.
MAX_VALUES, MAX_DEPTH = 10_000_000, 100


def save_torch(path: str | Path, content: Any, *, backup: Path | None = None) -> None:
    """`torch.save`, atomic and synced; equal content gives equal bytes. backup: where the old file goes."""
    # Through memory, since torch.save writes the file's own name into what it saves.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path, sync=True, backup=backup) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_torch(path: str | Path, kind: str) -> Any:
    """Tensors and plain values of a file, on the CPU; kind: what it should be, for messages.

    Nothing whose loading runs code: that, and whatever is damaged or something else, is a DamagedFileError,
    as are more values than MAX_VALUES. UserError if the file cannot be read at all.
    """
    check_regular_file(path, kind)
    with reading(path, kind):
        if zipfile.is_zipfile(path):  # as all files of torch since 1.6
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    # Torch writes none, but would read a small file that is larger than memory.
                    raise ValueError("found compressed tensors, expected them as torch.save stores them")
                if damaged := archive.testzip():  # torch ignores the checksums
                    raise ValueError(f"damaged: the checksum of {damaged} is wrong")
        try:
            with warnings.catch_warnings(action="ignore"):  # that bytes which are no pickle are an odd one
                content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"[Uu]nsupported (?:global: GLOBAL|GLOBAL|class:?) (\S+)", str(error))
            if not found:
                raise ValueError(DAMAGED) from None
            expected = "expected tensors and plain values, since loading others can run code"
            raise DamagedFileError(f"{path}: found a Python object ({found[1]}), {expected}") from None
        except MemoryError:
            raise
        except Exception as error:  # other bytes end in almost any
            if getattr(error, "errno", errno.EINVAL) != errno.EINVAL:  # that is a seek to before the file
                raise
            raise ValueError(DAMAGED) from None
        _check_number_of_values(content)
    return content


def _check_number_of_values(content: Any) -> None:
    """ValueError for too many values, or too deep ones; a value counts wherever it is met."""
    level, count, depth = [content], 1, 0
    while level:
        outer = [value for value in level if isinstance(value, (Mapping, list, tuple, set))]
        count, depth = count + sum(map(len, outer)), depth + 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError(
                f"found more than {MAX_VALUES:,} values, or some {MAX_DEPTH} levels deep, expected fewer"
            )
        level = [value for one in outer for value in (one.values() if isinstance(one, Mapping) else one)]


def check_tensors(tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """UserError, naming the tensor, for one that is not of plain, finite numbers."""
    for name, tensor in tensors.items():
        where = f"{source}: tensor {name}"
        narrow = tensor.is_floating_point() and tensor.element_size() == 1  # torch computes little with them
        strange = narrow or tensor.is_meta or tensor.is_quantized or tensor.is_complex()
        if strange or tensor.layout != torch.strided:
            raise UserError(
                f"{where}: found {tensor.dtype}, {tensor.layout}, {tensor.device}, expected plain numbers"
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"{where}: found numbers that are not finite, expected weights")


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
