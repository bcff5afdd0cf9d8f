"""MATLAB files, read by SciPy once what they declare has been checked: a UserError in place of gigabytes.

SciPy makes room for whatever shape an array declares, at any depth, and unpacks whatever was packed.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pose.io.errors import UserError
from pose.io.files import read_bytes

MAX_UNPACKED = 2**29  # bytes of a file's arrays: MPII's are about 200 million
MAX_ENTRIES = 2**26  # that all arrays of a file declare together
MAX_NESTED = 100  # arrays in arrays: SciPy would run out of its stack
_HEAD = 128  # bytes before the first array
_SHAPES, _ARRAY, _PACKED = (5, 6), 14, 15  # kinds of element: a shape's are int32 or uint32


def read_mat(path: str | Path, name: str, expected: str) -> np.ndarray:
    """An array of a MATLAB file of version 5 to 7; UserError if either is missing, damaged or too large.

    expected: what the array is, for a message.
    """
    import scipy.io  # here, since reading the prepared file must not need it

    data = read_bytes(path)
    if data[:_HEAD].endswith(b"\0\2IM") or data.startswith(b"\x89HDF"):
        raise UserError(f"{path}: found a MATLAB 7.3 file, expected version 7 or older (save it with '-v7')")
    damaged = f"{path}: cannot be read as a MATLAB file, damaged or cut short"
    if data[_HEAD - 2 : _HEAD] != b"IM":  # in the order of bytes that nearly all machines have
        raise UserError(f"{damaged}, or older than version 5")
    try:
        variables = scipy.io.loadmat(io.BytesIO(data[:_HEAD] + b"".join(_unpacked(data))))
    except Exception as error:  # damage raises whatever it leads to: ValueError, TypeError, zlib.error, ...
        raise UserError(f"{damaged} ({' '.join(str(error).split())[:200]})") from None
    found = variables.get(name)
    if not isinstance(found, np.ndarray):
        names = ", ".join(found for found in list(variables)[:20] if not found.startswith("__")) or "nothing"
        raise UserError(f"{path}: found {names}, expected {expected}")
    return found


def _unpacked(data: bytes) -> Iterator[bytes]:
    """The variables after the head, unpacked and checked; ValueError where they declare too much."""
    at, unpacked, entries = _HEAD, 0, 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        variable = data[at : at + 8 + size]
        if kind == _PACKED:
            unpacker = zlib.decompressobj()
            variable = unpacker.decompress(variable[8:], MAX_UNPACKED - unpacked + 1)
            if not unpacker.eof and len(variable) <= MAX_UNPACKED - unpacked:
                raise ValueError("a packed array is cut short")
        unpacked += len(variable)
        if unpacked > MAX_UNPACKED:
            raise ValueError(f"unpacks to more than {MAX_UNPACKED:,} bytes, expected fewer")
        entries += _count_entries(variable)
        if entries > MAX_ENTRIES:
            raise ValueError(f"declares {entries:,} entries, expected at most {MAX_ENTRIES:,}")
        yield variable
        at += 8 + size


def _count_entries(variable: bytes) -> int:
    """Entries that an array and all arrays within it declare; ValueError if they are nested too deep."""
    word_N = np.frombuffer(variable[: len(variable) // 8 * 8], dtype="<u4")
    kind_N = word_N[::2]  # of whatever begins at every eighth byte
    # An array: its kind and size in bytes, 16 bytes of flags, then kind, size and lengths of its shape.
    array_A = np.flatnonzero((kind_N[:-3] == _ARRAY) & np.isin(kind_N[3:] & 0xFFFF, _SHAPES))
    words, entries, ends = word_N.data, 0, list[int]()
    for at in (2 * array_A).tolist():
        is_short = words[at + 6] >> 16  # a shape of one length, in the place of its size
        shape = words[at + 7 : at + 8] if is_short else words[at + 8 : at + 8 + words[at + 7] // 4]
        if len(shape) <= 32:  # the reader refuses others
            entries += math.prod(shape.tolist())
        while ends and at >= ends[-1]:
            ends.pop()
        ends.append(at + 2 + words[at + 1] // 4)
        if len(ends) > MAX_NESTED:
            raise ValueError(f"arrays are nested more than {MAX_NESTED} deep, expected fewer")
    return entries
