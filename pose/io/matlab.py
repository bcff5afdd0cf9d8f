"""Reading MATLAB files.

UserError in place of the reader's dozen kinds of exception, and nothing larger than what the file holds.

The reader makes room for whatever shape an array declares, and unpacks whatever was packed; both are looked
at before it begins.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np

from pose.io.errors import UserError
from pose.io.files import read_bytes

MOST_UNPACKED = 2**29  # bytes of a file's arrays: MPII's are about 200 million
MOST_NESTED = 100  # arrays in arrays
_HEAD = 128  # bytes before the first array
MOST_AXES = 32  # of an array, as the reader has it
_SHAPE, _FLAGS, _ARRAY, _PACKED = 5, 6, 14, 15  # kinds of element


def read_mat(path: str | Path, name: str, expected: str) -> np.ndarray:
    """An array of a MATLAB file; UserError if file or array is missing, cut short, too large, or of no MATLAB version from 5 to 7.

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
        arrays = _unpacked(data)
        if len(arrays) > MOST_UNPACKED:
            raise UserError(f"{path}: unpacks to more than {MOST_UNPACKED:,} bytes, expected fewer")
        _check_shapes(arrays, path)
        variables = scipy.io.loadmat(io.BytesIO(data[:_HEAD] + arrays))
    except UserError:
        raise
    except (
        Exception
    ) as error:  # a damaged file raises what its damage leads to: ValueError, TypeError, zlib.error, ...
        raise UserError(f"{damaged} ({' '.join(str(error).split())[:200]})") from None
    found = variables.get(name)
    if not isinstance(found, np.ndarray):
        names = ", ".join(found for found in list(variables)[:20] if not found.startswith("__")) or "nothing"
        raise UserError(f"{path}: found {names}, expected {expected}")
    return found


def _unpacked(data: bytes) -> bytes:
    """The elements after the head, none of them packed; more than MOST_UNPACKED bytes if they are too many."""
    parts: list[bytes] = []
    at, room = _HEAD, MOST_UNPACKED + 1
    while at < len(data) and room > 0:
        kind, size = struct.unpack_from("<II", data, at)
        end = at + 8 + size
        if end > len(data) or kind not in (_PACKED, _ARRAY):
            raise ValueError(f"an element of kind {kind} and {size} bytes")
        parts.append(
            zlib.decompressobj().decompress(data[at + 8 : end], room) if kind == _PACKED else data[at:end]
        )
        room -= len(parts[-1])
        at = end
    return b"".join(parts)


def _check_shapes(arrays: bytes, path: str | Path) -> None:
    """UserError for an array of more entries than it has bytes, or one nested so deep that reading it would take all of the stack."""
    word_N2 = np.frombuffer(arrays[: len(arrays) // 8 * 8], dtype="<i4").reshape(-1, 2)
    # Every array begins alike: its tag, that of its flags, these, the tag of its shape, its shape.
    at_A = np.flatnonzero((word_N2[:-1, 0] == _ARRAY) & (word_N2[1:] == (_FLAGS, 8)).all(axis=1))
    at_A = at_A[at_A + 3 < len(word_N2)]
    for size in np.unique(word_N2[at_A + 3, 1]).tolist():
        axes, words = size // 4, (size + 7) // 8
        at_B = at_A[(word_N2[at_A + 3] == (_SHAPE, size)).all(axis=1) & (at_A + 4 + words <= len(word_N2))]
        if axes > MOST_AXES or not len(at_B):
            continue  # the reader refuses it
        shape_BX = (
            word_N2[at_B[:, None] + 4 + np.arange(words)].reshape(len(at_B), -1)[:, :axes].astype(np.float64)
        )
        wrong_B = (shape_BX < 0).any(axis=1) | (shape_BX.prod(axis=1) > word_N2[at_B, 1].astype(np.uint32))
        if wrong_B.any():
            shape = " x ".join(f"{length:.0f}" for length in shape_BX[wrong_B.argmax()])
            raise UserError(
                f"{path}: found an array of shape {shape}, expected no more entries than it has bytes"
            )
    ends: list[int] = []
    for at, end in zip(
        (8 * at_A).tolist(), (8 * at_A + 8 + word_N2[at_A, 1].astype(np.uint32)).tolist(), strict=True
    ):
        while ends and at >= ends[-1]:
            ends.pop()
        ends.append(end)
        if len(ends) > MOST_NESTED:
            raise UserError(f"{path}: found arrays nested more than {MOST_NESTED} deep, expected fewer")
