"""From LSP, LSPET and MPII as they come, or a published `lsp_mpii.h5`, to the prepared person file.

Whatever of the three sets is there is used. A person whose image is missing or damaged is left out and
counted. Each person's surroundings are packed into the file as a small JPEG, so that training reads few bytes
and decodes few pixels a person.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from pose.data.formats import lsp as raw_lsp
from pose.data.formats import mpii as raw_mpii
from pose.data.formats.person_table import (
    FEET_SHIFT,
    LSP_TEST,
    PERSON_HEIGHT,
    SOURCES,
    SPLITS,
    TRAIN,
    PersonTable,
    find_folder,
    is_placed,
    zero_based,
)
from pose.data.formats.published_h5 import encode_name, read_published
from pose.data.prepare.summary import IMAGE_MISSING, IMAGE_UNREADABLE, Summary
from pose.data.threads import in_threads
from pose.io.errors import UserError
from pose.io.files import atomic_write
from pose.io.hdf5 import create_images, write_columns
from pose.io.images import decode_image, encode_jpeg, is_jpeg, read_encoded, shrink
from pose.keypoints.skeleton import MPII
from pose.params import PrepareParams

PUBLISHED = "lsp_mpii.h5"
# Side of the packed surroundings over the person's height: the crop of 1.25 and room to turn it by 30 degrees
# (x 1.37) and to enlarge it by a quarter. Their corners, which are rarely reached, may be missing.
SURROUNDINGS = 1.25 * 1.7
# An image is kept as it came, which costs no second compression, if little of it and few of its pixels could
# be saved.
KEEP_SHARE, KEEP_ZOOM = 0.5, 0.6

OUTSIDE, NOT_PLACED, NO_JOINTS = "outside the image", "no scale or objpos", "no joints"


@dataclass
class LspMpiiSummary(Summary):
    """What became of the annotated people.

    Annotated, kept: people by (source, split). left_out: people by (source, reason).
    """

    annotated: Counter[tuple[str, str]] = field(default_factory=Counter)
    kept: Counter[tuple[str, str]] = field(default_factory=Counter)

    def table(self) -> list[str]:
        lines = [
            f"{'set':5} {'':9} {'people':>7}" + "".join(f" {split:>10}" for split in SPLITS) + "   left out"
        ]
        for source in SOURCES:
            if not any(counted == source for counted, _ in self.annotated):
                continue
            for what, counts in (("annotated", self.annotated), ("kept", self.kept)):
                by_split = [counts[source, split] for split in SPLITS]
                line = f"{source:5} {what:9} {sum(by_split):7,}" + "".join(
                    f" {count:10,}" for count in by_split
                )
                lines.append(line + (f"   {self.reasons(source) or 'none'}" if what == "kept" else ""))
        return lines


@dataclass(frozen=True)
class Job:
    """An image and the people in it: all that packing needs to know."""

    path: Path
    centre_P2: np.ndarray  # zero-based px
    side_P: np.ndarray  # of the surroundings, px


@dataclass(frozen=True)
class Packed:
    """The pictures of an image's people.

    JPEG bytes and affine (2, 3), None for a person outside the image.
    """

    size: tuple[int, int]  # width, height of the image
    pictures: list[tuple[bytes, np.ndarray] | None]


def prepare_lsp_mpii(
    root: str | Path, path: str | Path, *, params: PrepareParams, seed: int, workers: int | None = None
) -> LspMpiiSummary:
    """Write the prepared person file and say what is in it. The same input gives the same bytes.

    root: folder with LSP, LSPET, mpii, or a published lsp_mpii.h5, which is then taken instead. workers:
    threads, all cores if None. UserError if nothing usable is there. The file appears whole or not at all.
    """
    root, path = Path(root), Path(path)
    table, listed_validation_N, summary = collect(root)
    split_N = split_people(
        table,
        listed_validation_N,
        lspet_held_out=params.lspet_held_out,
        mpii_held_out=params.mpii_held_out,
        seed=seed,
    )
    if listed_validation_N is None and (table.source_N == SOURCES.index("mpii")).any():
        summary.notes.append(
            f"mpii: no {raw_mpii.JSON[0]} to list the published validation people, {params.mpii_held_out:g} of the images held out instead"
        )
    reason_N = _unusable(table)
    # Image by image, so that none is decoded twice.
    first_row: dict[str, int] = {}
    order_N = np.argsort(
        [first_row.setdefault(name, row) for row, name in enumerate(table.name_N)], kind="stable"
    )
    table, split_N, reason_N = table.take(order_N), split_N[order_N], reason_N[order_N]
    code_N50 = np.array([encode_name(name) for name in table.name_N])

    with atomic_write(path) as unfinished, h5py.File(unfinished, "w") as file:
        kept_N, size_N2, affine_N23 = _write_pictures(file, table, reason_N, root, params, workers, summary)
        for row in range(len(table)):
            key = SOURCES[table.source_N[row]], SPLITS[split_N[row]]
            summary.annotated[key] += 1
            summary.kept[key] += int(kept_N[row])
            if not kept_N[row]:
                summary.left_out[key[0], reason_N[row]] += 1
        if not kept_N.any():
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in Counter(reason_N.tolist()).items())
            raise UserError(
                f"{root}: none of {len(table):,} annotated people can be used ({reasons}), first image {table.name_N[0]}"
            )
        _write_columns(
            file, table.take(kept_N), code_N50[kept_N], split_N[kept_N], size_N2[kept_N], affine_N23[kept_N]
        )
    return summary


def collect(root: Path) -> tuple[PersonTable, np.ndarray | None, LspMpiiSummary]:
    """All annotated people under the data root; (N,) bool, who is a published MPII validation person, if a list of them is there."""
    mpii = find_folder(root, "mpii")
    mat = mpii / raw_mpii.MAT
    listing = next((mpii / name for name in raw_mpii.JSON if (mpii / name).is_file()), None)
    peers, peers_validation_N = raw_mpii.read_mpii_json(listing) if listing else (None, None)
    notes: list[str] = []

    if (root / PUBLISHED).is_file():
        used = [PUBLISHED]
        table = read_published(root / PUBLISHED)
        if mat.is_file():
            used.append(f"head sizes of {mat.name}")
            heads = raw_mpii.read_mpii_mat(mat)
            row_N = match_by_centre(table, heads)
            table.head_size_N[row_N >= 0] = heads.head_size_N[row_N[row_N >= 0]]
        listed_N = match_by_centre(table, peers) if peers else None
    else:
        used, tables = [], []
        for source, read in (("lsp", raw_lsp.read_lsp), ("lspet", raw_lsp.read_lspet)):
            folder = find_folder(root, source)
            if (folder / raw_lsp.ANNOTATIONS).is_file():
                used.append(f"{folder.name}/{raw_lsp.ANNOTATIONS}")
                tables.append(read(folder))
            elif folder.is_dir():
                notes.append(f"{source}: {folder} has no {raw_lsp.ANNOTATIONS}, not used")
        if mat.is_file():
            used.append(f"{mpii.name}/{mat.name}")
            tables.append(raw_mpii.read_mpii_mat(mat))
        elif peers:
            tables.append(peers)
        elif mpii.is_dir():
            notes.append(
                f"mpii: {mpii} has neither {raw_mpii.MAT} nor {' nor '.join(raw_mpii.JSON)}, not used"
            )
        if not tables:
            raise UserError(
                f"data.root {root}: no LSP, LSPET, mpii folder with annotations and no {PUBLISHED}, expected LSP/{raw_lsp.ANNOTATIONS}, "
                f"LSPET/{raw_lsp.ANNOTATIONS}, mpii/{raw_mpii.MAT}, mpii/{raw_mpii.JSON[0]}[.gz] or {PUBLISHED}"
            )
        table = PersonTable.join(tables)
        listed_N = match_by_index(table, peers) if peers else None
    validation_N = None
    if listing is not None and listed_N is not None and peers_validation_N is not None:
        used.append(f"{mpii.name}/{listing.name}")
        validation_N = (listed_N >= 0) & peers_validation_N[listed_N]
        num_unlisted = int(
            ((listed_N < 0) & (table.source_N == SOURCES.index("mpii")) & (table.istrain_N == TRAIN)).sum()
        )
        if num_unlisted:
            notes.append(
                f"mpii: {num_unlisted:,} people with joints are not in {listing.name}: train, unused in a validation image"
            )
    return table, validation_N, LspMpiiSummary(title=f"prepared from {root}: {', '.join(used)}", notes=notes)


def match_by_index(table: PersonTable, other: PersonTable) -> np.ndarray:
    """(N,) the row in `other` of the same image and the same index in it, -1 where there is none."""
    row_of = {
        (name, person): row
        for row, (name, person) in enumerate(zip(other.name_N, other.person_N.tolist(), strict=True))
    }
    keys = zip(table.name_N, table.person_N.tolist(), strict=True)
    return np.array([row_of.get(key, -1) for key in keys], dtype=np.int64)


def match_by_centre(table: PersonTable, other: PersonTable) -> np.ndarray:
    """(N,) the row in `other` of the same image with the nearest centre within a pixel, -1 where there is none."""
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(other.name_N):
        rows_of.setdefault(name, []).append(row)
    match_N = np.full(len(table), -1, dtype=np.int64)
    for row, name in enumerate(table.name_N):
        if name in rows_of:
            candidates = np.array(rows_of[name])
            distance = np.nan_to_num(
                np.linalg.norm(other.centre_N2[candidates] - table.centre_N2[row], axis=1), nan=np.inf
            )
            if distance.min() <= 1:
                match_N[row] = candidates[distance.argmin()]
    return match_N


def split_people(
    table: PersonTable,
    listed_validation_N: np.ndarray | None,
    *,
    lspet_held_out: float,
    mpii_held_out: float,
    seed: int,
) -> np.ndarray:
    """(N,) uint8 index in SPLITS.

    Listed_validation_N: the published MPII validation people, None if no list of them is at hand.

    All people of an image are on the same side: training people in a validation image (the list leaves out
    some) are unused.
    """
    train, validation, test, unused = range(len(SPLITS))
    lsp, lspet, mpii = (table.source_N == index for index in range(len(SOURCES)))
    held_out_N = lspet & chosen(table.name_N, lspet_held_out, seed)
    if listed_validation_N is None:
        held_out_N |= mpii & chosen(table.name_N, mpii_held_out, seed)
        barred_N = np.zeros(len(table), dtype=bool)
    else:
        held_out_N |= mpii & listed_validation_N
        barred_N = mpii & np.isin(
            table.name_N.astype(str), np.unique(table.name_N[mpii & listed_validation_N].astype(str))
        )
    split_N = np.full(len(table), unused, dtype=np.uint8)
    trainable_N = table.istrain_N == TRAIN
    split_N[trainable_N & ~barred_N] = train
    split_N[trainable_N & held_out_N] = validation
    split_N[lsp & (table.istrain_N == LSP_TEST)] = test
    return split_N


def chosen(name_N: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N,) bool: about this share of the images, by a hash of the name, so that it matters not which other images there are."""
    numbers = (
        int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big") for name in name_N
    )
    return np.array([number < share * 2.0**64 for number in numbers], dtype=bool)


def pack(
    data: bytes, image_HW3: np.ndarray, centre_xy: np.ndarray, side: float, params: PrepareParams
) -> tuple[bytes, np.ndarray] | None:
    """The square of `side` px around a person, as JPEG bytes of at most about `pack_size` px a side, and the affine (2, 3) to it.

    data: the image's file; image_HW3: the same, decoded; centre_xy: zero-based px. None if the square lies
    outside the image.
    """
    size_wh = np.array(image_HW3.shape[1::-1])
    # Half-pixel centres: pixel i reaches from i - 0.5 to i + 0.5.
    low_xy = np.clip(np.floor(centre_xy - side / 2 + 0.5), 0, size_wh).astype(int)
    high_xy = np.clip(np.ceil(centre_xy + side / 2 + 0.5), 0, size_wh).astype(int)
    crop_wh = high_xy - low_xy
    if crop_wh.min() < 1:
        return None
    zoom = min(1.0, params.pack_size / side)
    if is_jpeg(data) and zoom > KEEP_ZOOM and crop_wh.prod() > KEEP_SHARE * size_wh.prod():
        return data, np.eye(2, 3)
    crop_HW3 = np.ascontiguousarray(image_HW3[low_xy[1] : high_xy[1], low_xy[0] : high_xy[0]])
    packed_HW3, affine = shrink(crop_HW3, zoom)
    affine[:, 2] = (0.5 - low_xy) * affine.diagonal() - 0.5  # from the image's px, not the crop's
    return encode_jpeg(packed_HW3, params.jpeg_quality), affine


def _unusable(table: PersonTable) -> np.ndarray:
    """(N,) str objects: why a person cannot be used whatever the image, else empty."""
    reason_N = np.full(len(table), "", dtype=object)
    reason_N[~is_placed(table.centre_N2, table.scale_N)] = NOT_PLACED
    # MPII's people without joints have a code of their own in the published layout; one of LSP without any is
    # of no use.
    reason_N[(table.source_N != SOURCES.index("mpii")) & ~table.labelled_NK.any(axis=1)] = NO_JOINTS
    return reason_N


def _write_pictures(
    file: h5py.File,
    table: PersonTable,
    reason_N: np.ndarray,
    root: Path,
    params: PrepareParams,
    workers: int | None,
    summary: LspMpiiSummary,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write `packed`, a row per person kept, and fill in `reason_N` for the others.

    Returns (N,) bool, who is kept, (N, 2) width and height of the image, (N, 2, 3) affine to the packed
    picture.
    """
    pictures = create_images(file, len(table))
    size_N2 = np.zeros((len(table), 2), dtype=np.int64)
    affine_N23 = np.zeros((len(table), 2, 3))
    num_kept = 0
    rows_of, jobs = _jobs(table, reason_N, root)
    with in_threads(lambda job: _pack_image(job, params), jobs, workers, doing="packing people") as results:
        for rows, packed in zip(rows_of, results, strict=True):
            if isinstance(packed, str):
                reason_N[rows] = IMAGE_UNREADABLE
                summary.unusable.append(packed)
                continue
            size_N2[rows] = packed.size
            for row, picture in zip(rows, packed.pictures, strict=True):
                if picture is None:
                    reason_N[row] = OUTSIDE
                    continue
                affine_N23[row] = picture[1]
                pictures[num_kept] = np.frombuffer(picture[0], dtype=np.uint8)
                num_kept += 1
    pictures.resize((num_kept,))
    return reason_N == "", size_N2, affine_N23


def _jobs(table: PersonTable, reason_N: np.ndarray, root: Path) -> tuple[list[np.ndarray], list[Job]]:
    """The rows of each image that is there, and its job. Rows of an image lie together."""
    folder = {source: find_folder(root, source) for source in SOURCES}
    centre_N2 = zero_based(table.source_N, table.centre_N2)
    centre_N2[:, 1] += np.where(table.source_N == SOURCES.index("mpii"), FEET_SHIFT * table.scale_N, 0.0)
    side_N = SURROUNDINGS * PERSON_HEIGHT * table.scale_N
    starts = [row for row in range(len(table)) if row == 0 or table.name_N[row] != table.name_N[row - 1]]
    rows_of, jobs = [], []
    for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
        within = table.name_N[start].partition("/")[2]
        image = folder[SOURCES[table.source_N[start]]] / within
        rows = start + np.flatnonzero(reason_N[start:end] == "")
        if len(rows) and not image.is_file():
            reason_N[rows] = IMAGE_MISSING
        elif len(rows):
            rows_of.append(rows)
            jobs.append(Job(path=image, centre_P2=centre_N2[rows], side_P=side_N[rows]))
    return rows_of, jobs


def _pack_image(job: Job, params: PrepareParams) -> Packed | str:
    """The packed pictures of an image's people, or what is wrong with the image."""
    try:
        data = read_encoded(job.path)
        image_HW3 = decode_image(data, str(job.path))
    except UserError as error:
        return str(error)
    people = zip(job.centre_P2, job.side_P.tolist(), strict=True)
    pictures = [pack(data, image_HW3, centre_xy, side, params) for centre_xy, side in people]
    return Packed(size=(image_HW3.shape[1], image_HW3.shape[0]), pictures=pictures)


def _write_columns(
    file: h5py.File,
    table: PersonTable,
    code_N50: np.ndarray,
    split_N: np.ndarray,
    size_N2: np.ndarray,
    affine_N23: np.ndarray,
) -> None:
    columns = {
        "imgname": code_N50,
        "center": table.centre_N2,
        "scale": table.scale_N,
        "part": np.nan_to_num(table.part_NK2),
        "visible": np.nan_to_num(table.visible_NK),
        "istrain": table.istrain_N,
        "head_size": table.head_size_N,
        "source": table.source_N,
        "image_size": size_N2,
        "person": table.person_N,
        "split": split_N,
        "packed_affine": affine_N23,
    }
    write_columns(
        file,
        columns,
        codes={"source": SOURCES, "split": SPLITS},
        attributes={"skeleton": MPII.model_dump_json()},
    )
