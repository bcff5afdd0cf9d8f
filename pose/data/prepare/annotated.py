"""Annotated images of any set in COCO's format, before they are packed: which are used, and as they are read.

H W image px.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from pose.data.formats.coco_json import Entry, RawCoco, is_labelled_person
from pose.data.image_set import SPLITS
from pose.data.prepare.image_names import ImageFile
from pose.data.prepare.packing import Unusable, pack_images, read_raw_image, write_columns
from pose.data.prepare.summary import IMAGE_MISSING, Changes, Summary
from pose.data.prepared_set import annotation_file
from pose.io.errors import UserError
from pose.io.files import atomic_write
from pose.io.hdf5 import create_h5
from pose.io.images import exif_orientation
from pose.keypoints.skeleton import Skeleton
from pose.params import CocoParams

COLUMNS = ("listed", "kept", "people", "crowds")  # of the summary
FEW_PEOPLE, NOT_CHOSEN, OTHER_SIZE = "too few people", "not chosen", "size not as annotated"
OUTSIDE, NO_BOX = "people outside the image", "people without a box"
TURNED = "images turned upright, since only so they have the annotated size"
FITS_BOTH = "images have the annotated size either way, read as prepare.coco.exif says: {}"

# Called with the annotations of a split; returns notes, raises UserError if they cannot be scored on.
Check = Callable[[RawCoco], list[str]]


@dataclass(frozen=True, slots=True)
class Image:
    """An annotated image in its split. annotations: of people and crowds.

    lacking: places of joints that its file does not list.
    """

    entry: Entry
    annotations: list[Entry]
    split: str
    file: ImageFile
    lacking: tuple[int, ...] = ()

    @property
    def size_wh(self) -> tuple[int, int]:
        """As annotated, px."""
        return self.entry["width"], self.entry["height"]

    @property
    def people(self) -> list[Entry]:
        """Those who are trained on."""
        return [annotation for annotation in self.annotations if is_labelled_person(annotation)]


@dataclass(frozen=True)
class ReadImage:
    """An image as it is annotated. data: its file. exif: a note on its orientation, if that matters.

    is_turned: image_HW3 is turned as its EXIF data says, which `data` does not show.
    """

    data: bytes
    image_HW3: np.ndarray
    exif: str
    is_turned: bool


@dataclass(frozen=True, slots=True)
class Packed:
    """What a prepared file has of an image.

    people: those in the file. affines: from image px to the px of each picture. exif: as of `ReadImage`.
    ignore_R: run lengths of what the loss must not look at.
    """

    people: list[Entry]
    affines: list[np.ndarray]
    exif: str
    ignore_R: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint32))


@dataclass(frozen=True)
class Packing:
    """How the files of a prepared folder are written.

    raw: what all annotations share. root: what names of images are relative to. check: of what will be scored
    on. workers: threads, all cores if None.
    """

    folder: Path
    raw: RawCoco
    root: Path
    check: Check | None
    workers: int | None
    summary: Summary

    @property
    def skeleton(self) -> Skeleton:
        """Of all people."""
        return self.raw.skeleton

    def name(self, image: Image) -> str:
        """Name of an image in the file."""
        return image.file.path.relative_to(self.root).as_posix()


def choose(
    images: Sequence[Image], params: CocoParams, seed: int, summary: Summary, source: str | Path
) -> list[Image]:
    """The images to use, by id: of those with enough people and a file, the first by a hash of the id.

    So the choice depends little on which others are present, and a larger number only adds images to those of
    a smaller one. UserError, beginning with `source`, if a split has none.
    """
    summary.counts.update((image.split, "listed") for image in images)
    chosen: list[Image] = []
    for split in SPLITS:
        candidates = []
        for image in (image for image in images if image.split == split):
            if len(image.people) < getattr(params.min_people, split):
                summary.left_out[split, FEW_PEOPLE] += 1
            elif image.file.missing:
                if not summary.left_out[split, IMAGE_MISSING]:
                    summary.unusable.append(f"{split}: the first image missing: {image.file.missing}")
                summary.left_out[split, IMAGE_MISSING] += 1
            else:
                candidates.append(image)
        candidates.sort(key=lambda image: hashlib.sha256(f"{seed} {image.entry['id']}".encode()).digest())
        limit = getattr(params.images, split) or len(candidates)
        if len(candidates) > limit:
            summary.left_out[split, NOT_CHOSEN] += len(candidates) - limit
        chosen += candidates[:limit]
    check_splits(chosen, summary, source)
    return sorted(chosen, key=lambda image: image.entry["id"])


def read_annotated(image: Image, params: CocoParams) -> ReadImage:
    """The image; Unusable if it is damaged or of another size than annotated."""
    data, image_HW3 = read_raw_image(image.file.path)
    exif, is_turned = "", False
    if exif_orientation(data) != 1 or image_HW3.shape[1::-1] != image.size_wh:
        _, upright_HW3 = read_raw_image(image.file.path, upright=True)
        if upright_HW3.shape[1::-1] == image.size_wh and not np.array_equal(image_HW3, upright_HW3):
            fits_both = image_HW3.shape == upright_HW3.shape
            exif = FITS_BOTH.format(params.exif) if fits_both else TURNED
            is_turned = not fits_both or params.exif == "upright"
            image_HW3 = upright_HW3 if is_turned else image_HW3
    height, width = image_HW3.shape[:2]
    if (width, height) != image.size_wh:
        expected = f"expected {image.size_wh[0]} x {image.size_wh[1]} as annotated"
        raise Unusable(OTHER_SIZE, f"{image.file.path}: found {width} x {height} px, {expected}")
    return ReadImage(data, image_HW3, exif, is_turned)


def write_packed(
    name: str,
    images: Sequence[Image],
    pack: Callable[[Image], tuple[list[bytes], Packed]],
    columns: Callable[[Sequence[tuple[Image, Packed]], Packing], dict[str, np.ndarray]],
    packing: Packing,
    *,
    splits: Sequence[str],
    most: int,
    annotate: bool = True,
) -> list[Image]:
    """Write a prepared file of the images that can be used, atomically, and return these.

    name: of the file. pack, most: as of `pack_images`. columns: beside the packed images. splits: names in
    the column of that name. annotate: write these images' annotations before the file appears, and note how
    images are turned; true for one of the files that are made of the same images. UserError if a split has
    no image.
    """
    summary, kept, changes = packing.summary, list[tuple[Image, Packed]](), Changes()
    with atomic_write(packing.folder / name) as temporary, create_h5(temporary) as file:
        infos = pack_images(file, images, pack, most=most, workers=packing.workers, summary=summary)
        for image, info in zip(images, infos, strict=True):
            if isinstance(info, Unusable):
                summary.left_out[image.split, info.reason] += 1
                continue
            used = {person["id"] for person in info.people}
            for person in image.people:
                if person["id"] not in used:
                    has_box = max(person["bbox"][2:]) > 0
                    summary.left_out[image.split, OUTSIDE if has_box else NO_BOX] += 1
            if info.affines:
                kept.append((image, info))
                if info.exif:
                    changes.add(info.exif, image.file.path.name)
        usable = [image for image, _ in kept]
        check_splits(usable, summary, packing.root)
        file.attrs["skeleton"] = packing.skeleton.model_dump_json()
        write_columns(file, columns(kept, packing), names={"split": splits})
        file.flush()
        if annotate:
            summary.notes += changes.lines("EXIF orientation")
            write_annotations(usable, packing)
    return usable


def count_kept(images: Sequence[Image], summary: Summary) -> None:
    """Count the images that are kept, and whom they show."""
    for image in images:
        summary.counts[image.split, "kept"] += 1
        summary.counts[image.split, "people"] += len(image.people)
        summary.counts[image.split, "crowds"] += sum(bool(one["iscrowd"]) for one in image.annotations)


def annotations_of(images: Sequence[Image], split: str, path: Path, raw: RawCoco) -> RawCoco:
    """The annotations of the images of a split, as those of the file `path`. raw: the rest of them."""
    of_split = [image for image in images if image.split == split]
    people_of = {image.entry["id"]: image.annotations for image in of_split}
    entries = [image.entry for image in of_split]
    return replace(raw, path=path, images=entries, people_of=people_of, num_others=0)


def write_annotations(images: Sequence[Image], packing: Packing) -> None:
    """Write the annotations of the images of each split, for pycocotools, checked."""
    for split in SPLITS:
        own = annotations_of(images, split, annotation_file(packing.folder, split), packing.raw)
        if packing.check:
            packing.summary.notes += [f"{split}: {note}" for note in packing.check(own)]
        encode = json.JSONEncoder(separators=(",", ":")).encode
        with atomic_write(own.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(encode(own.rest | {"images": own.images}).removesuffix("}") + ',"annotations":[')
            # One by one: of all at once the encoder keeps a string for each number.
            for number, annotation in enumerate(chain.from_iterable(own.people_of.values())):
                file.write(("," if number else "") + encode(annotation))
            file.write("]}")


def check_splits(images: Sequence[Image], summary: Summary, source: str | Path) -> None:
    """UserError, with what became of its images and the first one's fault, if a split has none to be used."""
    for split in SPLITS:
        if not any(image.split == split for image in images):
            found = f"none of {summary.counts[split, 'listed']:,} {split} images can be used"
            reasons = f"({summary.reasons(split) or 'none listed'})"
            own = [line for line in summary.unusable if line.startswith(f"{split}: ")]
            raise UserError("; ".join([f"{source}: {found} {reasons}", *(own or summary.unusable)[:1]]))
