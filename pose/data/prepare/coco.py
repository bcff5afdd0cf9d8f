"""COCO 2014 or 2017 as it comes -> the prepared folder: a subset of its images, its annotations by split.

Images that are missing or damaged are left out and counted. The others are packed into one file, so that
training needs nothing of the raw set; what the loss must not look at is kept as run lengths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from pose.data.formats.coco_json import (
    Entry,
    RawCoco,
    is_labelled_person,
    read_annotations,
    read_valid_ids,
    region,
)
from pose.data.formats.folders import find_folder
from pose.data.image_set import FILE, SPLITS, annotation_file
from pose.data.prepare.packing import Unusable, pack_images, read_raw_image, write_columns
from pose.data.prepare.summary import IMAGE_MISSING, Summary
from pose.data.rle import runs_of
from pose.io.errors import UserError
from pose.io.files import atomic_write, remove_stale_temp_files, write_text
from pose.io.hdf5 import create_h5
from pose.io.images import encode_jpeg, is_jpeg, shrink
from pose.keypoints.skeleton import COCO
from pose.params import CocoParams

YEARS = ("2017", "2014")
FILES = ("train", "val")  # of a year
VALID_ID = "valid_id"
MIN_FOUND = 0.1  # share of `valid_id`'s images: with fewer, the list is about a larger set than this one
FEW_PEOPLE, NOT_CHOSEN, OTHER_SIZE = "too few people", "not chosen", "size not as annotated"

# Of a packed image: the affine (2, 3) to it, and run lengths of where the loss must not look.
Info = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Image:
    """An annotated image in its split."""

    entry: Entry
    annotations: list[Entry]
    split: str
    path: Path

    @property
    def size_wh(self) -> tuple[int, int]:
        """As annotated, px."""
        return self.entry["width"], self.entry["height"]

    @property
    def people(self) -> list[Entry]:
        """Those who are trained on."""
        return [annotation for annotation in self.annotations if is_labelled_person(annotation)]


def prepare_coco(
    root: str | Path, folder: str | Path, *, params: CocoParams, seed: int, workers: int | None = None
) -> Summary:
    """Write the prepared folder. The same input gives the same bytes.

    root: folder with `coco` in it. workers: threads, all cores if None. UserError if nothing usable is
    present. Each file is written atomically, `coco.h5` last.
    """
    coco, folder = find_folder(root, "coco"), Path(folder)
    remove_stale_temp_files(folder, annotation_file(folder, SPLITS[0]).parent)
    files, notes = find_annotations(coco)
    images, rule = split_images(coco, files)
    title = f"prepared from {coco}: {', '.join(file.path.name for file in files)}"
    summary = Summary(title, ("listed", "kept", "people", "crowds"), [rule, *notes])
    summary.counts.update((image.split, "listed") for image in images)
    images = choose(images, params, seed, summary)
    _check_splits(images, summary, coco)

    with atomic_write(folder / FILE) as temporary:
        with create_h5(temporary) as file:
            pack_one = partial(pack, params=params)
            packed = pack_images(file, images, pack_one, most=len(images), workers=workers, summary=summary)
            _count(images, packed, summary)
            kept = [
                image for image, info in zip(images, packed, strict=True) if not isinstance(info, Unusable)
            ]
            _check_splits(kept, summary, coco)
            _write_columns(file, kept, [info for info in packed if not isinstance(info, Unusable)], coco)
        for split in SPLITS:
            of_split = [image for image in kept if image.split == split]
            content = files[0].rest | {
                "images": [image.entry for image in of_split],
                "annotations": [annotation for image in of_split for annotation in image.annotations],
            }
            write_text(annotation_file(folder, split), json.dumps(content, separators=(",", ":")))
    return summary


def find_annotations(coco: Path) -> tuple[list[RawCoco], list[str]]:
    """The annotation files of the newest year that is present, and notes on them."""
    names_of = {year: [f"person_keypoints_{name}{year}.json" for name in FILES] for year in YEARS}
    paths_of = {
        year: [path for name in names if (path := coco / "annotations" / name).is_file()]
        for year, names in names_of.items()
    }
    year = next((year for year in YEARS if paths_of[year]), None)
    if year is None:
        expected = " or ".join(" and ".join(names) for names in names_of.values())
        raise UserError(f"{coco}: no annotations of people, expected annotations/{expected}")
    files = [read_annotations(path) for path in paths_of[year]]
    if len(files) == 2:
        _check_ids_differ(*files)
    notes = [
        f"{file.path.name}: {file.num_others:,} annotations of other categories than person left out"
        for file in files
        if file.num_others
    ]
    unused = [path.name for other in YEARS if other != year for path in paths_of[other]]
    if unused:
        notes.append(f"not used beside {year}: {', '.join(unused)}")
    return files, notes


def _check_ids_differ(first: RawCoco, second: RawCoco) -> None:
    """UserError if both files have an image or annotation of one id: pycocotools would drop one of them."""

    def ids(file: RawCoco) -> dict[str, set[int]]:
        annotations = {annotation["id"] for people in file.people_of.values() for annotation in people}
        return {"image": set(file.people_of), "annotation": annotations}

    for kind, others in ids(second).items():
        if shared := others & ids(first)[kind]:
            found = f"{kind} {min(shared)} is in {first.path.name} too"
            raise UserError(f"{second.path}: {found}, expected an id in one file")


def split_images(coco: Path, files: Sequence[RawCoco]) -> tuple[list[Image], str]:
    """All annotated images in their splits, and the rule as a line.

    The ids in `valid_id` validate, whichever file holds them, and all others train. Without it, or where
    nearly all of its images are missing (a list of the complete set beside a small part of it), the val
    file's images validate.
    """
    folders = [_image_folder(coco, file) for file in files]
    path_of = {
        entry["id"]: folder / entry["file_name"]
        for file, folder in zip(files, folders, strict=True)
        for entry in file.images
    }
    has_list = (coco / VALID_ID).exists()
    listed = read_valid_ids(coco / VALID_ID) if has_list else set()
    validate = path_of.keys() & listed
    found = sum(path_of[image_id].is_file() for image_id in validate)
    val_files = [file for file in files if file.path.stem.startswith("person_keypoints_val")]
    both_files = len(val_files) == 1 and len(files) == 2
    present = f"{found:,} of {VALID_ID}'s {len(listed):,} images are present"
    why = f"only {present}" if has_list else f"no {VALID_ID}"
    if validate and not (both_files and found < MIN_FOUND * len(listed)):
        rule = f"{present} and validate"
    elif both_files:
        validate = set(val_files[0].people_of)
        rule = f"split by file, since {why}: the images of {val_files[0].path.name} validate"
    else:
        raise UserError(
            f"{coco}: only {files[0].path.name} and {why},"
            f" expected a train and a val file, or ids of its images in {VALID_ID}"
        )
    return [
        Image(entry, file.people_of[entry["id"]], SPLITS[entry["id"] in validate], path_of[entry["id"]])
        for file in files
        for entry in file.images
    ], rule


def _image_folder(coco: Path, file: RawCoco) -> Path:
    name = file.path.stem.removeprefix("person_keypoints_")
    return next((folder for folder in (coco / name, coco / "images" / name) if folder.is_dir()), coco / name)


def choose(images: Sequence[Image], params: CocoParams, seed: int, summary: Summary) -> list[Image]:
    """The images to use, by id: of those with enough people and a file, the first by a hash of the id.

    So the choice depends little on which others are present, and a larger number only adds images to those of
    a smaller one.
    """
    chosen: list[Image] = []
    for split in SPLITS:
        candidates = []
        for image in (image for image in images if image.split == split):
            if len(image.people) < getattr(params.min_people, split):
                summary.left_out[split, FEW_PEOPLE] += 1
            elif not image.path.is_file():
                summary.left_out[split, IMAGE_MISSING] += 1
            else:
                candidates.append(image)
        candidates.sort(key=lambda image: hashlib.sha256(f"{seed} {image.entry['id']}".encode()).digest())
        limit = getattr(params.images, split) or len(candidates)
        if len(candidates) > limit:
            summary.left_out[split, NOT_CHOSEN] += len(candidates) - limit
        chosen += candidates[:limit]
    return sorted(chosen, key=lambda image: image.entry["id"])


def pack(image: Image, params: CocoParams) -> tuple[list[bytes], Info]:
    """The image as JPEG bytes, and `Info`; Unusable if it is damaged or of another size than annotated."""
    data, image_HW3 = read_raw_image(image.path)
    height, width = image_HW3.shape[:2]
    if (width, height) != image.size_wh:
        expected = f"expected {image.size_wh[0]} x {image.size_wh[1]} as annotated"
        raise Unusable(OTHER_SIZE, f"{image.path}: found {width} x {height} px, {expected}")
    small_HW3, affine = shrink(image_HW3, params.longest / max(width, height))
    if small_HW3 is not image_HW3 or not is_jpeg(data):
        data = encode_jpeg(small_HW3, params.jpeg_quality)
    ignore_HW = np.zeros((height, width), dtype=bool)
    for annotation in image.annotations:
        if annotation["iscrowd"] or (params.ignore_unlabelled and not is_labelled_person(annotation)):
            ignore_HW |= region(annotation, height, width)
    ignore_R = runs_of(ignore_HW) if ignore_HW.any() else np.empty(0, dtype=np.uint32)
    return [data], (affine, ignore_R)


def _check_splits(images: Sequence[Image], summary: Summary, coco: Path) -> None:
    """UserError, with what became of its images and the first one's fault, if a split has none to be used."""
    for split in SPLITS:
        if not any(image.split == split for image in images):
            found = f"none of {summary.counts[split, 'listed']:,} {split} images can be used"
            reasons = f"({summary.reasons(split) or 'none listed'})"
            raise UserError("; ".join([f"{coco}: {found} {reasons}", *summary.unusable[:1]]))


def _count(images: Sequence[Image], infos: Sequence[Info | Unusable], summary: Summary) -> None:
    for image, info in zip(images, infos, strict=True):
        if isinstance(info, Unusable):
            summary.left_out[image.split, info.reason] += 1
        else:
            summary.counts[image.split, "kept"] += 1
            summary.counts[image.split, "people"] += len(image.people)
            summary.counts[image.split, "crowds"] += sum(bool(one["iscrowd"]) for one in image.annotations)


def _write_columns(file: h5py.File, images: Sequence[Image], infos: Sequence[Info], coco: Path) -> None:
    people = [person for image in images for person in image.people]
    keypoints = np.array([person["keypoints"] for person in people], dtype=np.float64)
    names = [image.path.relative_to(coco).as_posix() for image in images]
    columns: dict[str, np.ndarray] = {
        "packed_affine": np.array([affine for affine, _ in infos]),
        "runs": np.array([len(ignore_R) for _, ignore_R in infos], dtype=np.int64),
        "run": np.concatenate([ignore_R for _, ignore_R in infos]),
        "id": np.array([image.entry["id"] for image in images], dtype=np.int64),
        "split": np.array([SPLITS.index(image.split) for image in images], dtype=np.uint8),
        "image_size": np.array([image.size_wh for image in images], dtype=np.int64),
        "people": np.array([len(image.people) for image in images], dtype=np.int64),
        "keypoint": keypoints.reshape(-1, len(COCO), 3),
        "annotation": np.array([person["id"] for person in people], dtype=np.int64),
        "name": np.array(names, dtype=h5py.string_dtype()),
    }
    file.attrs["skeleton"] = COCO.model_dump_json()
    write_columns(file, columns, names={"split": SPLITS})
