"""From COCO 2014 or 2017 as it comes to the prepared folder.

A subset of its images in one file, and its annotations by split.

Images that are missing or damaged are left out and counted. Pictures are packed into the file, so that
training needs nothing of the raw set; which of their pixels the loss must not look at is kept as run lengths.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from pose.data.image_set import FILE, SPLITS, annotation_file
from pose.data.prepare.summary import IMAGE_MISSING, IMAGE_UNREADABLE, Summary
from pose.data.rle import runs_of
from pose.data.threads import in_threads
from pose.io.errors import UserError
from pose.io.files import atomic_write, write_text
from pose.io.hdf5 import create_images, write_columns
from pose.io.images import decode_image, encode_jpeg, is_jpeg, read_encoded, shrink
from pose.keypoints.skeleton import COCO
from pose.params import CocoParams

FOLDERS = ("coco", "COCO")  # in the data root, as it is spelt
YEARS = ("2017", "2014")
FILES = ("train", "val")  # of a year
VALID_ID = "valid_id"
LEAST_FOUND = (
    0.1  # of the images that `valid_id` lists: where there are fewer, it is about a larger set than this one
)
LEAST_SIDE = 8  # px; a picture with a shorter side shows no one

FEW_PEOPLE, NOT_CHOSEN, TOO_SMALL, OTHER_SIZE = (
    "too few people",
    "not chosen",
    "too small",
    "size not as annotated",
)


@dataclass
class CocoSummary(Summary):
    """What became of the listed images.

    Counts: by (split, what): listed and kept images, people, crowds. left_out: images by (split, reason).
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def table(self) -> list[str]:
        columns = ("listed", "kept", "people", "crowds")
        lines = [f"{'images':10}" + "".join(f" {name:>9}" for name in columns) + "   left out"]
        for split in SPLITS:
            numbers = "".join(f" {self.counts[split, name]:9,}" for name in columns)
            lines.append(f"{split:10}{numbers}   {self.reasons(split) or 'none'}")
        return lines


@dataclass(frozen=True)
class Source:
    """An annotation file and the folder of its images."""

    raw: RawCoco
    images: Path


@dataclass(frozen=True)
class Image:
    """An annotated image, in the split that it is in."""

    entry: Entry
    annotations: list[Entry]
    split: str
    path: Path
    name: str  # relative to the raw set's folder

    @property
    def people(self) -> list[Entry]:
        """Those who are trained on."""
        return [annotation for annotation in self.annotations if is_labelled_person(annotation)]


@dataclass(frozen=True)
class Packed:
    """A picture as JPEG bytes, the affine (2, 3) to it from image px, and the run lengths of the region that the loss must not look at."""

    data: bytes
    affine: np.ndarray
    ignore_R: np.ndarray


def prepare_coco(
    root: str | Path, folder: str | Path, *, params: CocoParams, seed: int, workers: int | None = None
) -> CocoSummary:
    """Write the prepared folder and say what is in it. The same input gives the same bytes.

    root: folder with `coco` in it. workers: threads, all cores if None. UserError if nothing usable is there.
    The files appear whole or not at all, `coco.h5` last.
    """
    root, folder = Path(root), Path(folder)
    coco = next((root / name for name in FOLDERS if (root / name).is_dir()), root / FOLDERS[0])
    sources, notes = find_sources(coco)
    images, rule = split_images(coco, sources)
    title = f"prepared from {coco}: {', '.join(source.raw.path.name for source in sources)}"
    summary = CocoSummary(title=title, notes=[rule, *notes])
    for image in images:
        summary.counts[image.split, "listed"] += 1
    images = choose(images, params, seed, summary)
    _check_splits(images, summary, coco)

    with atomic_write(folder / FILE) as unfinished:
        with h5py.File(unfinished, "w") as file:
            kept = _write_pictures(file, images, params, workers, summary)
            _check_splits(kept, summary, coco)
            _write_columns(file, kept)
        for split in SPLITS:
            content = _annotations(sources, [image for image in kept if image.split == split])
            write_text(annotation_file(folder, split), json.dumps(content, separators=(",", ":")))
    return summary


def find_sources(coco: Path) -> tuple[list[Source], list[str]]:
    """The annotation files of the newest year that is there, read, and what is to be said about them."""
    files_of = {
        year: [coco / "annotations" / f"person_keypoints_{name}{year}.json" for name in FILES]
        for year in YEARS
    }
    there_of = {year: [path for path in files if path.is_file()] for year, files in files_of.items()}
    year = next((year for year in YEARS if there_of[year]), None)
    if year is None:
        expected = " or ".join(f"{files[0].name} and {files[1].name}" for files in files_of.values())
        raise UserError(f"{coco}: no annotations of people, expected annotations/{expected}")
    sources, notes = [], []
    seen: dict[int, Path] = {}
    numbered: dict[int, Path] = {}
    for path in there_of[year]:
        raw = read_annotations(path)
        name = path.stem.removeprefix("person_keypoints_")
        sources.append(
            Source(
                raw=raw,
                images=next((f for f in (coco / name, coco / "images" / name) if f.is_dir()), coco / name),
            )
        )
        for image in raw.images:
            if image["id"] in seen:
                raise UserError(
                    f"{path}: image {image['id']} is in {seen[image['id']].name} too, expected each image in one file"
                )
        seen |= {image["id"]: path for image in raw.images}
        numbers = [annotation["id"] for people in raw.people_of.values() for annotation in people]
        for number in numbers:
            if number in numbered:  # pycocotools would drop one of the two and say nothing
                raise UserError(
                    f"{path}: annotation {number} is in {numbered[number].name} too, expected each id in one file"
                )
        numbered |= dict.fromkeys(numbers, path)
        if raw.num_others:
            notes.append(
                f"{path.name}: {raw.num_others:,} annotations of other categories than person left out"
            )
    unused = [path.name for other in YEARS if other != year for path in there_of[other]]
    if unused:
        notes.append(f"not used beside {year}: {', '.join(unused)}")
    return sources, notes


def split_images(coco: Path, sources: Sequence[Source]) -> tuple[list[Image], str]:
    """All annotated images in the split that they are in, and a line that says by which rule.

    The ids in `valid_id` validate, whatever file holds them, and all others train. Where it is not there, or
    nearly all of the images that it lists are not (a list of the whole set beside a small part of it), the
    val file's images validate.
    """
    there = (coco / VALID_ID).exists()
    listed = read_valid_ids(coco / VALID_ID) if there else set()
    path_of = {
        entry["id"]: source.images / entry["file_name"] for source in sources for entry in source.raw.images
    }
    validate = path_of.keys() & listed
    found = sum(path_of[image_id].is_file() for image_id in validate)
    val_files = [source.raw.path for source in sources if _is_val(source)]
    by_file = len(val_files) == 1 and len(sources) == 2
    why = f"only {found:,} of {VALID_ID}'s {len(listed):,} images can be found" if there else f"no {VALID_ID}"
    if validate and not (by_file and found < LEAST_FOUND * len(listed)):
        rule = f"split by {VALID_ID}: {found:,} of its {len(listed):,} images can be found and validate, whatever file holds them"
    elif by_file:
        validate = {entry["id"] for source in sources if _is_val(source) for entry in source.raw.images}
        rule = f"split by file, since {why}: the images of {val_files[0].name} validate"
    else:
        raise UserError(
            f"{coco}: only {sources[0].raw.path.name} and {why}, expected a train and a val file, or ids of its images in {VALID_ID}"
        )
    images = [
        Image(
            entry=entry,
            annotations=source.raw.people_of[entry["id"]],
            split=SPLITS[entry["id"] in validate],
            path=path_of[entry["id"]],
            name=path_of[entry["id"]].relative_to(coco).as_posix(),
        )
        for source in sources
        for entry in source.raw.images
    ]
    return images, rule


def choose(images: Sequence[Image], params: CocoParams, seed: int, summary: CocoSummary) -> list[Image]:
    """The images to use, by id.

    Of those that show enough people and have a file, the first ones by a hash of the id.

    So it matters little which others there are, and more images never replace but only join those chosen
    before.
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


def pack(image: Image, params: CocoParams) -> Packed | tuple[str, str]:
    """The image as it goes into the file, or why it does not: the reason, and a line that names it."""
    try:
        data = read_encoded(image.path)
        image_HW3 = decode_image(data, str(image.path))
    except UserError as error:
        return IMAGE_UNREADABLE, str(error)
    height, width = image_HW3.shape[:2]
    if (width, height) != (image.entry["width"], image.entry["height"]):
        annotated = f"{image.entry['width']} x {image.entry['height']}"
        return OTHER_SIZE, f"{image.path}: found {width} x {height} px, expected {annotated} as annotated"
    if min(width, height) < LEAST_SIDE:
        return TOO_SMALL, f"{image.path}: found {width} x {height} px, expected at least {LEAST_SIDE} a side"
    small_HW3, affine = shrink(image_HW3, params.longest / max(width, height))
    if small_HW3 is not image_HW3 or not is_jpeg(data):
        data = encode_jpeg(small_HW3, params.jpeg_quality)
    ignore_HW = np.zeros((height, width), dtype=bool)
    for annotation in image.annotations:
        if annotation["iscrowd"] or (params.ignore_unlabelled and not is_labelled_person(annotation)):
            ignore_HW |= region(annotation, height, width)
    return Packed(
        data=data,
        affine=affine,
        ignore_R=runs_of(ignore_HW) if ignore_HW.any() else np.empty(0, dtype=np.uint32),
    )


def _is_val(source: Source) -> bool:
    return source.raw.path.stem.startswith("person_keypoints_val")


def _check_splits(images: Sequence[Image], summary: CocoSummary, coco: Path) -> None:
    """UserError, with what became of its images and the first one's fault, if a split has none that can be used."""
    for split in SPLITS:
        if not any(image.split == split for image in images):
            found = f"none of {summary.counts[split, 'listed']:,} {split} images can be used ({summary.reasons(split) or 'none listed'})"
            raise UserError(f"{coco}: {found}" + (f"; {summary.unusable[0]}" if summary.unusable else ""))


def _write_pictures(
    file: h5py.File, images: Sequence[Image], params: CocoParams, workers: int | None, summary: CocoSummary
) -> list[Image]:
    """Write the pictures, their affines and masks; returns the images that could be packed."""
    pictures = create_images(file, len(images))
    kept: list[Image] = []
    affines, runs = [], [np.empty(0, dtype=np.uint32)]
    with in_threads(lambda image: pack(image, params), images, workers, doing="packing images") as results:
        for image, packed in zip(images, results, strict=True):
            if isinstance(packed, tuple):
                summary.left_out[image.split, packed[0]] += 1
                summary.unusable.append(packed[1])
                continue
            pictures[len(kept)] = np.frombuffer(packed.data, dtype=np.uint8)
            kept.append(image)
            affines.append(packed.affine)
            runs.append(packed.ignore_R)
            summary.counts[image.split, "kept"] += 1
            summary.counts[image.split, "people"] += len(image.people)
            summary.counts[image.split, "crowds"] += sum(
                bool(annotation["iscrowd"]) for annotation in image.annotations
            )
    pictures.resize((len(kept),))
    columns = {
        "packed_affine": np.array(affines).reshape(-1, 2, 3),
        "runs": np.array([len(run_R) for run_R in runs[1:]], dtype=np.int64),
        "run": np.concatenate(runs),
    }
    write_columns(file, columns)
    return kept


def _write_columns(file: h5py.File, images: Sequence[Image]) -> None:
    people = [annotation for image in images for annotation in image.people]
    columns: dict[str, np.ndarray] = {
        "id": np.array([image.entry["id"] for image in images], dtype=np.int64),
        "split": np.array([SPLITS.index(image.split) for image in images], dtype=np.uint8),
        "image_size": np.array(
            [[image.entry["width"], image.entry["height"]] for image in images], dtype=np.int64
        ),
        "people": np.array([len(image.people) for image in images], dtype=np.int64),
        "keypoint": np.array([person["keypoints"] for person in people], dtype=np.float64).reshape(
            -1, len(COCO), 3
        ),
        "annotation": np.array([person["id"] for person in people], dtype=np.int64),
        "name": np.array([image.name for image in images], dtype=h5py.string_dtype()),
    }
    write_columns(file, columns, codes={"split": SPLITS}, attributes={"skeleton": COCO.model_dump_json()})


def _annotations(sources: Sequence[Source], images: Sequence[Image]) -> Entry:
    """A file's content for these images.

    All their annotations, also the crowds and people without joints, as they were.
    """
    return sources[0].raw.rest | {
        "images": [image.entry for image in images],
        "annotations": [annotation for image in images for annotation in image.annotations],
    }
