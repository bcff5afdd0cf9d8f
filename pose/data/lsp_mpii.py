"""People of LSP, LSPET and MPII, one row a person: the table of annotations, and the prepared file `lsp_mpii.h5`.

N rows, K = 16 joints in MPII order, H W pixels. Raw numbers are those of the annotations and of the published layout: MPII's
are one-based, LSP's and LSPET's are taken as they are. Only `LspMpii`, the reader, turns them into zero-based pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pose.data.h5 import (
    PICTURES,
    OncePerProcess,
    checked_pictures,
    naming,
    open_h5,
    read_affine_column,
    read_code_column,
    read_number_column,
    read_whole_column,
)
from pose.data.images import FAR, MOST_PIXELS, decode_image, relative_name
from pose.errors import UserError
from pose.skeleton import MPII

SOURCES = ("lsp", "lspet", "mpii")
SPLITS = ("train", "validation", "test", "unused")
# Folder of each set in the data root, as image names in the file spell it, and as it is found on disk.
FOLDERS = {"lsp": ("LSP", "lsp"), "lspet": ("LSPET", "lspet"), "mpii": ("mpii", "MPII")}
NAME_LENGTH = 50  # characters of an image name that the published layout has room for
JOINTS = len(MPII)
PERSON_HEIGHT = 200.0  # `scale` is a person's height in units of this many pixels
# On MPII, crops lie this many pixels * scale below `objpos`, so that the feet are kept.
FEET_SHIFT = 15.0
# Codes of `istrain` in the published file. Its original loader had 0 and 2 the wrong way round.
TRAIN, LSP_TEST, MPII_TEST, INCOMPLETE = 1, 0, 2, -1


@dataclass(frozen=True)
class PersonTable:
    """Annotated people in raw numbers, before anything is known about their images.

    source_N: index in SOURCES. name_N: image names such as `LSP/images/im0001.jpg` (str objects). centre_N2, scale_N: NaN where
    not annotated; scale is height / 200 px. part_NK2: 0 or less where absent. visible_NK: 1 seen, 0 occluded or absent.
    istrain_N: published code. head_size_N: px, 0.6 * diagonal of MPII's head box, else NaN. person_N: index in its image.
    """

    source_N: np.ndarray
    name_N: np.ndarray
    centre_N2: np.ndarray
    scale_N: np.ndarray
    part_NK2: np.ndarray
    visible_NK: np.ndarray
    istrain_N: np.ndarray
    head_size_N: np.ndarray
    person_N: np.ndarray

    def __len__(self) -> int:
        return len(self.source_N)

    @property
    def labelled_NK(self) -> np.ndarray:
        """(N, K) bool."""
        return is_labelled(self.part_NK2)

    def take(self, rows: np.ndarray) -> PersonTable:
        """The table of the given rows, in their order."""
        return PersonTable(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})

    @staticmethod
    def join(tables: list[PersonTable]) -> PersonTable:
        """All rows of several tables, one table after the other."""
        fields = [field.name for field in dataclasses.fields(PersonTable)]
        return PersonTable(**{field: np.concatenate([getattr(table, field) for table in tables]) for field in fields})


def is_labelled(part_NK2: np.ndarray) -> np.ndarray:
    """(N, K) bool from raw joints (N, K, 2): published files mark an absent joint by a number that is not positive.

    `visible` does not say it: published LSP rows call all 16 joints visible, also the two that LSP does not have.
    """
    labelled_NK: np.ndarray = (np.greater(part_NK2, 0) & np.less(part_NK2, FAR)).all(axis=2)
    return labelled_NK


def is_placed(centre_N2: np.ndarray, scale_N: np.ndarray) -> np.ndarray:
    """(N,) bool: whether a person's centre, px, and scale are numbers, and of a size that pictures have."""
    near_N2: np.ndarray = np.abs(centre_N2) < FAR
    return near_N2.all(axis=1) & (scale_N > 1 / FAR) & (scale_N < FAR)


def zero_based(source_N: np.ndarray, point_N2: np.ndarray) -> np.ndarray:
    """Raw points (N, ..., 2) -> zero-based px: MPII counts from one, the only place where that is undone."""
    one_based_N = (source_N == SOURCES.index("mpii")).astype(np.float64)
    zero_based_N2: np.ndarray = point_N2 - one_based_N.reshape(-1, *[1] * (point_N2.ndim - 1))
    return zero_based_N2


def image_name(source: str, within: str, file: str | Path) -> str:
    """`within` the set's folder, e.g. `images/im0001.jpg`, as a name relative to the data root.

    UserError, naming the annotation `file`, for a name that would lead out of that folder.
    """
    return f"{FOLDERS[source][0]}/{relative_name(within, f'{file}: image name')}"


def find_folder(root: str | Path, source: str) -> Path:
    """A set's folder under the data root, whichever of its accepted spellings is there (the first one if none is)."""
    candidates = [Path(root) / folder for folder in FOLDERS[source]]
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


def decode_name(codes: np.ndarray, file: str | Path) -> str:
    """Character codes, zero padded -> an image name; UserError, naming the file, if they are none."""
    try:
        return "".join(map(chr, codes.astype(np.int64).tolist())).rstrip("\0")
    except (ValueError, OverflowError):
        raise UserError(f"{file}: dataset 'imgname' holds something else than character codes") from None


def encode_name(name: str) -> np.ndarray:
    """(50,) float64 character codes, zero padded; UserError for a name that the published layout has no room for."""
    if len(name) > NAME_LENGTH:
        raise UserError(f"imgname {name[:60]!r} has {len(name)} characters, expected at most {NAME_LENGTH}: give the image a shorter name")
    codes = np.zeros(NAME_LENGTH)
    codes[: len(name)] = [ord(letter) for letter in name]
    return codes


def read_published(path: str | Path) -> PersonTable:
    """The six datasets of a published (or our own) `lsp_mpii.h5`, in raw numbers.

    Head sizes are not in it: NaN. A person's index is the number of rows before it with the same image.
    """
    with open_h5(path) as file:
        code_N50 = read_number_column(file, "imgname", (None, NAME_LENGTH))
        num_people = len(code_N50)
        if not np.isfinite(code_N50).all() or num_people == 0:
            raise UserError(f"{path}: dataset 'imgname' holds {num_people} rows or not numbers only, expected a row of codes a person")
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
        source = next((source for source in ("lspet", "lsp", "mpii") if folder.lower().startswith(source)), None)
        if source is None:
            raise UserError(f"{path}: image name {stored!r}, expected one that begins with LSP/, LSPET/ or mpii/")
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


class LspMpii:
    """Reader of the prepared file. Columns are whole numpy arrays; pictures are read one at a time.

    joint_NK2: zero-based image px, NaN where unlabelled. labelled_NK: bool. visible_NK: 1 seen, 0 occluded. centre_N2: zero-based
    image px (MPII's objpos; its crops lie 15 * scale px lower, see FEET_SHIFT). scale_N: height / 200 px. head_size_N: px or NaN.
    source_N, split_N: str, of SOURCES and SPLITS. image_size_N2: width, height. person_N: index in its image. istrain_N: published code.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._datasets = OncePerProcess(self.path)
        with open_h5(self.path) as file:
            self._code_N50 = read_number_column(file, "imgname", (None, NAME_LENGTH))
            num = len(self._code_N50)
            source_N = read_code_column(file, "source", num, SOURCES)
            part_NK2 = read_number_column(file, "part", (num, JOINTS, 2))
            self.labelled_NK: np.ndarray = is_labelled(part_NK2)
            self.joint_NK2: np.ndarray = np.where(self.labelled_NK[..., None], zero_based(source_N, part_NK2), np.nan)
            self.visible_NK: np.ndarray = read_number_column(file, "visible", (num, JOINTS))
            self.centre_N2: np.ndarray = zero_based(source_N, read_number_column(file, "center", (num, 2)))
            self.scale_N: np.ndarray = read_number_column(file, "scale", (num,))
            self.istrain_N: np.ndarray = read_whole_column(file, "istrain", (num,))
            self.head_size_N: np.ndarray = read_number_column(file, "head_size", (num,))
            self.source_N: np.ndarray = np.array(SOURCES)[source_N]
            self.split_N: np.ndarray = np.array(SPLITS)[read_code_column(file, "split", num, SPLITS)]
            self.image_size_N2: np.ndarray = read_whole_column(file, "image_size", (num, 2), least=0, most=MOST_PIXELS)
            self.person_N: np.ndarray = read_whole_column(file, "person", (num,))
            self._affine_N23 = read_affine_column(file, "packed_affine", num)
            checked_pictures(file, num)
        placed_N = is_placed(self.centre_N2, self.scale_N)
        if not placed_N.all():
            raise UserError(f"{self.path}: row {placed_N.argmin()} has no place: expected numbers in 'center', and one above 0 in 'scale'")

    def __len__(self) -> int:
        return len(self.scale_N)

    def __reduce__(self) -> tuple[Any, ...]:
        return LspMpii, (self.path,)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the people of a split who have at least one labelled joint."""
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}, expected one of {', '.join(SPLITS)}")
        return np.flatnonzero((self.split_N == split) & self.labelled_NK.any(axis=1))

    def name(self, row: int) -> str:
        """Name of the person's image, relative to the data root."""
        return decode_name(self._code_N50[row], self.path)

    def picture(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The person's surroundings, (H, W, 3) uint8 RGB, and the (2, 3) affine from image px to this picture's px."""
        return next(self.pictures([row]))

    def pictures(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`picture` of each of these rows, in their order. Read in one go: HDF5 takes most of its time to begin."""
        packed = self._datasets[PICTURES]
        with naming(self.path, PICTURES):
            place = packed.id.get_space()
            place.select_elements(np.asarray(rows, dtype=np.uint64)[:, None])
            data_B = np.empty(len(rows), dtype=packed.dtype)
            packed.id.read(h5py.h5s.create_simple(data_B.shape), place, data_B)
        for row, data in zip(rows, data_B, strict=True):
            yield decode_image(data.tobytes(), f"{self.path}: picture of row {row}"), self._affine_N23[row].copy()
