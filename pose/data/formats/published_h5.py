"""The published `lsp_mpii.h5` -> a table of people. N rows, K = 16 joints in MPII order, raw numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.data.formats.person_table import JOINTS, SOURCES, PersonTable, image_name
from pose.io.errors import UserError
from pose.io.hdf5 import open_h5, read_number_column, read_whole_column

NAME_LENGTH = 50  # characters of an image name that the layout has room for


def decode_name(codes: np.ndarray, file: str | Path) -> str:
    """Character codes, zero padded -> an image name; UserError, naming the file, if they are none."""
    try:
        return "".join(map(chr, codes.astype(np.int64).tolist())).rstrip("\0")
    except (ValueError, OverflowError):
        raise UserError(f"{file}: dataset 'imgname' holds something else than character codes") from None


def encode_name(name: str) -> np.ndarray:
    """(50,) float64 character codes, zero padded; UserError for a name that is too long for the layout."""
    if len(name) > NAME_LENGTH:
        raise UserError(
            f"imgname {name[:60]!r} has {len(name)} characters, expected at most {NAME_LENGTH}:"
            " give the image a shorter name"
        )
    codes = np.zeros(NAME_LENGTH)
    codes[: len(name)] = [ord(letter) for letter in name]
    return codes


def read_published(path: str | Path) -> PersonTable:
    """The six datasets of a published (or our own) `lsp_mpii.h5`, in raw numbers.

    It has no head sizes: NaN. A person's index is the number of rows before it with the same image.
    """
    with open_h5(path) as file:
        code_N50 = read_number_column(file, "imgname", (None, NAME_LENGTH))
        num_people = len(code_N50)
        if not np.isfinite(code_N50).all() or num_people == 0:
            raise UserError(
                f"{path}: dataset 'imgname' holds {num_people} rows or not numbers only,"
                " expected a row of codes a person"
            )
        centre_N2 = read_number_column(file, "center", (num_people, 2))
        scale_N = read_number_column(file, "scale", (num_people,))
        part_NK2 = read_number_column(file, "part", (num_people, JOINTS, 2))
        visible_NK = read_number_column(file, "visible", (num_people, JOINTS))
        istrain_N = read_whole_column(file, "istrain", (num_people,))
    sources, names, person, rows_before = [], [], [], dict[str, int]()
    for codes in code_N50:
        stored = decode_name(codes, path)
        folder, _, within = stored.partition("/")
        # The longer prefix first: "lspet" begins as "lsp" does.
        prefixes = (source for source in ("lspet", "lsp", "mpii") if folder.lower().startswith(source))
        source = next(prefixes, None)
        if source is None:
            raise UserError(
                f"{path}: image name {stored!r}, expected one that begins with LSP/, LSPET/ or mpii/"
            )
        name = image_name(source, within, path)
        sources.append(SOURCES.index(source))
        names.append(name)
        person.append(rows_before.get(name, 0))
        rows_before[name] = person[-1] + 1
    return PersonTable(
        source_N=np.array(sources, dtype=np.uint8),
        name_N=np.array(names, dtype=object),
        centre_N2=centre_N2,
        scale_N=scale_N,
        part_NK2=part_NK2,
        visible_NK=visible_NK,
        istrain_N=istrain_N,
        head_size_N=np.full(num_people, np.nan),
        person_N=np.array(person, dtype=np.int64),
    )
