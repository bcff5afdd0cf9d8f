"""LSP, LSPET and MPII as they come, or a published `lsp_mpii.h5` -> the prepared person file.

Whichever of the three sets are present are used. A person whose image is missing or damaged is left out and
counted. Each person's surroundings are packed into the file as a small JPEG, so that training reads few bytes
and decodes few pixels a person. N people, P people of one image.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from pose.data.formats import lsp as raw_lsp
from pose.data.formats import mpii as raw_mpii
from pose.data.formats.folders import find_folder
from pose.data.formats.person_table import (
    LSP_TEST,
    MPII,
    PERSON_HEIGHT,
    SOURCES,
    SPLITS,
    TRAIN,
    PersonTable,
    crop_centre,
    is_placed,
)
from pose.data.formats.published_h5 import encode_name, read_published
from pose.data.prepare.packing import (
    Unusable,
    chosen,
    pack_images,
    pack_surroundings,
    read_raw_image,
    write_columns,
)
from pose.data.prepare.summary import IMAGE_MISSING, Summary
from pose.io.errors import UserError
from pose.io.files import atomic_write, remove_stale_temp_files
from pose.io.hdf5 import create_h5
from pose.params import SURROUNDINGS, PrepareParams

PUBLISHED = "lsp_mpii.h5"
OUTSIDE, NOT_PLACED, NO_JOINTS = "outside the image", "no scale or objpos", "no joints"


def prepare_lsp_mpii(
    root: str | Path, path: str | Path, *, params: PrepareParams, seed: int, workers: int | None = None
) -> Summary:
    """Write the prepared person file, atomically. The same input gives the same bytes.

    root: folder with LSP, LSPET, mpii, or a published lsp_mpii.h5, which is then taken instead. workers:
    threads, all cores if None. UserError if nothing usable is present.
    """
    root, path = Path(root), Path(path)
    remove_stale_temp_files(path.parent)
    table, listed_validation_N, summary = collect(root)
    split_N = split_people(table, listed_validation_N, params, seed)
    if listed_validation_N is None and table.mpii_N.any():
        summary.notes.append(
            f"mpii: no {raw_mpii.JSON[0]} to list the published validation people,"
            f" {params.mpii_held_out:g} of the images held out instead"
        )
    # Image by image, in the order of first mention, so that none is decoded twice.
    _, first_row, image_N = np.unique(table.name_N, return_index=True, return_inverse=True)
    order_N = np.argsort(first_row[image_N], kind="stable")
    table, split_N = table.take(order_N), split_N[order_N]
    code_N50 = np.array([encode_name(name) for name in table.name_N])

    with atomic_write(path) as temporary, create_h5(temporary) as file:
        reason_N, size_N2, affine_N23 = _pack_images(file, table, root, params, workers, summary)
        kept_N = reason_N == ""
        _count(table, split_N, reason_N, summary)
        if not kept_N.any():
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in Counter(reason_N.tolist()).items())
            raise UserError(
                f"{root}: none of {len(table):,} annotated people can be used ({reasons}),"
                f" first image {table.name_N[0]}"
            )
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
        file.attrs["skeleton"] = MPII.model_dump_json()
        kept = {name: values[kept_N] for name, values in columns.items()}
        write_columns(file, kept, names={"source": SOURCES, "split": SPLITS})
    return summary


def _count(table: PersonTable, split_N: np.ndarray, reason_N: np.ndarray, summary: Summary) -> None:
    for source in range(len(SOURCES)):
        for split in range(len(SPLITS)):
            reasons = Counter(reason_N[(table.source_N == source) & (split_N == split)].tolist())
            if reasons:
                row = f"{SOURCES[source]} {SPLITS[split]}"
                summary.counts[row, "annotated"] = reasons.total()
                summary.counts[row, "kept"] = reasons.pop("", 0)
                summary.left_out.update({(row, reason): count for reason, count in reasons.items()})


# --- who is annotated ---


def collect(root: Path) -> tuple[PersonTable, np.ndarray | None, Summary]:
    """All annotated people under the data root, and (N,) bool, who is a published MPII validation person.

    None in place of the latter where no list of them is at hand.
    """
    mpii = find_folder(root, "mpii")
    listing = raw_mpii.find_list(mpii)
    listed, validates_M = raw_mpii.read_mpii_json(listing) if listing else (None, np.empty(0))
    if (root / PUBLISHED).is_file():
        table, used, notes = read_published(root / PUBLISHED), [PUBLISHED], list[str]()
        match = match_by_centre
        if (mpii / raw_mpii.MAT).is_file():
            used.append(f"head sizes of {raw_mpii.MAT}")
            heads = raw_mpii.read_mpii_mat(mpii / raw_mpii.MAT)
            row_N = match(table, heads)
            table.head_size_N[row_N >= 0] = heads.head_size_N[row_N[row_N >= 0]]
    else:
        table, used, notes = _read_raw_sets(root, mpii, listed)
        match = match_by_index
    validation_N = None
    if listing and listed:
        used.append(f"{mpii.name}/{listing.name}")
        row_N = match(table, listed)
        validation_N = (row_N >= 0) & validates_M[row_N]
        unlisted = int(((row_N < 0) & table.mpii_N & (table.istrain_N == TRAIN)).sum())
        if unlisted:
            notes.append(
                f"mpii: {unlisted:,} people with joints are not in {listing.name}:"
                " train, or unused in a validation image"
            )
    summary = Summary(f"prepared from {root}: {', '.join(used)}", ("annotated", "kept"), notes)
    return table, validation_N, summary


def _read_raw_sets(
    root: Path, mpii: Path, listed: PersonTable | None
) -> tuple[PersonTable, list[str], list[str]]:
    """The people of whichever raw sets are present, the files used, and notes."""
    used, notes, tables = [], [], []
    for source, read in (("lsp", raw_lsp.read_lsp), ("lspet", raw_lsp.read_lspet)):
        folder = find_folder(root, source)
        if (folder / raw_lsp.ANNOTATIONS).is_file():
            used.append(f"{folder.name}/{raw_lsp.ANNOTATIONS}")
            tables.append(read(folder))
        elif folder.is_dir():
            notes.append(f"{source}: {folder} has no {raw_lsp.ANNOTATIONS}, not used")
    if (mpii / raw_mpii.MAT).is_file():
        used.append(f"{mpii.name}/{raw_mpii.MAT}")
        tables.append(raw_mpii.read_mpii_mat(mpii / raw_mpii.MAT))
    elif listed:
        tables.append(listed)
    elif mpii.is_dir():
        notes.append(f"mpii: {mpii} has neither {raw_mpii.MAT} nor {' nor '.join(raw_mpii.JSON)}, not used")
    if not tables:
        raise UserError(
            f"data.root {root}: no LSP, LSPET, mpii folder with annotations and no {PUBLISHED},"
            f" expected LSP/{raw_lsp.ANNOTATIONS}, LSPET/{raw_lsp.ANNOTATIONS}, mpii/{raw_mpii.MAT},"
            f" mpii/{raw_mpii.JSON[0]}[.gz] or {PUBLISHED}"
        )
    return PersonTable.join(tables), used, notes


def match_by_index(table: PersonTable, other: PersonTable) -> np.ndarray:
    """(N,) the row in `other` of the same image and the same index in it, -1 where there is none."""
    keys = zip(other.name_N, other.person_N.tolist(), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    keys = zip(table.name_N, table.person_N.tolist(), strict=True)
    return np.array([row_of.get(key, -1) for key in keys], dtype=np.int64)


def match_by_centre(table: PersonTable, other: PersonTable) -> np.ndarray:
    """(N,) the row in `other` of the same image with the nearest centre, -1 if none is within a pixel."""
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(other.name_N):
        rows_of.setdefault(name, []).append(row)
    match_N = np.full(len(table), -1, dtype=np.int64)
    for row, name in enumerate(table.name_N):
        if name in rows_of:
            candidates = np.array(rows_of[name])
            distance = np.linalg.norm(other.centre_N2[candidates] - table.centre_N2[row], axis=1)
            distance = np.nan_to_num(distance, nan=np.inf)
            if distance.min() <= 1:
                match_N[row] = candidates[distance.argmin()]
    return match_N


# --- who trains, who validates ---


def split_people(
    table: PersonTable, listed_validation_N: np.ndarray | None, params: PrepareParams, seed: int
) -> np.ndarray:
    """(N,) uint8 index in SPLITS.

    listed_validation_N: the published MPII validation people, None without a list of them. All people of an
    image are on the same side: training people in a validation image (the list leaves out some) are unused.
    """
    train, validation, test, unused = range(len(SPLITS))
    lsp_N, lspet_N = (table.source_N == SOURCES.index(source) for source in ("lsp", "lspet"))
    held_out_N = lspet_N & chosen(table.name_N, params.lspet_held_out, seed)
    held_out_N |= lsp_N & chosen(table.name_N, params.lsp_held_out, seed)
    barred_N = np.zeros(len(table), dtype=bool)
    if listed_validation_N is None:
        held_out_N |= table.mpii_N & chosen(table.name_N, params.mpii_held_out, seed)
    else:
        listed_N = table.mpii_N & listed_validation_N
        held_out_N |= listed_N
        barred_N = table.mpii_N & np.isin(table.name_N, table.name_N[listed_N])
    split_N = np.full(len(table), unused, dtype=np.uint8)
    trainable_N = table.istrain_N == TRAIN
    split_N[trainable_N & ~barred_N] = train
    split_N[trainable_N & held_out_N] = validation
    split_N[lsp_N & (table.istrain_N == LSP_TEST)] = test
    return split_N


# --- their images ---


def _pack_images(
    file: h5py.File,
    table: PersonTable,
    root: Path,
    params: PrepareParams,
    workers: int | None,
    summary: Summary,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write the images of the people who can be used. Rows of an image lie together.

    Returns (N,) str objects, why a person is left out, else empty; (N, 2) width and height of the image;
    (N, 2, 3) affine from image px to the px of the packed image.
    """
    reason_N = np.full(len(table), "", dtype=object)
    reason_N[~is_placed(table.centre_N2, table.scale_N)] = NOT_PLACED
    # MPII's people without joints have a code of their own in the published layout; others are of no use.
    reason_N[~table.mpii_N & ~table.labelled_NK.any(axis=1)] = NO_JOINTS
    centre_N2 = crop_centre(table.source_N, table.centre_N2, table.scale_N)
    side_N = SURROUNDINGS * PERSON_HEIGHT * table.scale_N
    size_N2, affine_N23 = np.zeros((len(table), 2), dtype=np.int64), np.zeros((len(table), 2, 3))
    folders = [find_folder(root, source) for source in SOURCES]

    def image_path(row: int) -> Path:
        return folders[table.source_N[row]] / table.name_N[row].partition("/")[2]

    jobs = []  # rows of each image that is present
    starts = np.flatnonzero(np.append(True, table.name_N[1:] != table.name_N[:-1]))
    for rows in np.split(np.arange(len(table)), starts[1:]):
        rows = rows[reason_N[rows] == ""]
        if len(rows) and image_path(rows[0]).is_file():
            jobs.append(rows)
        else:
            reason_N[rows] = IMAGE_MISSING

    def pack_people(rows: np.ndarray) -> tuple[list[bytes], tuple[np.ndarray, list[np.ndarray | None]]]:
        data, image_HW3 = read_raw_image(image_path(rows[0]))
        people = zip(centre_N2[rows], side_N[rows].tolist(), strict=True)
        packed = [pack_surroundings(data, image_HW3, centre_xy, side, params) for centre_xy, side in people]
        affines = [one[1] if one else None for one in packed]
        return [one[0] for one in packed if one], (np.array(image_HW3.shape[1::-1]), affines)

    infos = pack_images(file, jobs, pack_people, most=len(table), workers=workers, summary=summary)
    for rows, info in zip(jobs, infos, strict=True):
        if isinstance(info, Unusable):
            reason_N[rows] = info.reason
            continue
        size_N2[rows], affines = info
        for row, affine in zip(rows, affines, strict=True):
            if affine is None:
                reason_N[row] = OUTSIDE
            else:
                affine_N23[row] = affine
    return reason_N, size_N2, affine_N23
