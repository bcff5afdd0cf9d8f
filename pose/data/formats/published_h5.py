"""The published `lsp_mpii.h5` -> a table of people. N rows, K = 16 joints in MPII order, raw numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from pose.data.formats.folders import image_name
from pose.data.formats.person_table import JOINTS, SOURCES, PersonTable
from pose.io.errors import UserError, reading
from pose.io.hdf5 import open_h5, read_number_column

NAME_LENGTH = 50  # characters of an image name that the layout has room for


def decode_name(codes: np.ndarray) -> str:
    """Character codes, zero padded -> an image name; ValueError if they are none."""
    return "".join(chr(int(code)) for code in codes.tolist()).rstrip("\0")


def encode_name(name: str) -> np.ndarray:
    """(50,) float64 character codes, zero padded; UserError for a name that is too long for the layout."""
    if len(name) > NAME_LENGTH:
        found = f"imgname {name[:60]!r} has {len(name)} characters"
        raise UserError(f"{found}, expected at most {NAME_LENGTH}: give the image a shorter name")
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
        columns = {
            "centre_N2": read_number_column(file, "center", (num_people, 2)),
            "scale_N": read_number_column(file, "scale", (num_people,)),
            "part_NK2": read_number_column(file, "part", (num_people, JOINTS, 2)),
            "visible_NK": read_number_column(file, "visible", (num_people, JOINTS)),
            "istrain_N": read_number_column(file, "istrain", (num_people,)).astype(np.int64),
        }
    with reading(f"{path}: dataset 'imgname'", "codes of characters"):
        stored_N = [decode_name(codes) for codes in code_N50]
    sources, names, person, rows_before = [], [], [], Counter[str]()
    for stored in stored_N:
        folder, _, within = stored.partition("/")
        # The longer prefix first: "lspet" begins as "lsp" does.
        prefixes = (source for source in ("lspet", "lsp", "mpii") if folder.lower().startswith(source))
        source = next(prefixes, None)
        if source is None:
            raise UserError(
                f"{path}: image name {stored!r}, expected one that begins with LSP/, LSPET/ or mpii/"
            )
        sources.append(SOURCES.index(source))
        names.append(image_name(source, within, path))
        person.append(rows_before[names[-1]])
        rows_before[names[-1]] += 1
    return PersonTable(
        source_N=np.array(sources, dtype=np.uint8),
        name_N=np.array(names),
        head_size_N=np.full(num_people, np.nan),
        person_N=np.array(person),
        **columns,
    )
