"""COCO 2014 or 2017 as it comes -> the prepared folder: a subset of its images, its annotations by split.

Images that are missing or damaged are left out and counted. The others are packed into one file, so that
training needs nothing of the raw set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pose.data.formats.coco_json import read_valid_ids
from pose.data.formats.folders import find_folder
from pose.data.image_set import SPLITS
from pose.data.prepare.annotated import COLUMNS, Check, Image, Packing, choose, count_kept
from pose.data.prepare.categories import Joints
from pose.data.prepare.images import write_images
from pose.data.prepare.normalise import Normalised, read_normalised, same_image, with_own_ids
from pose.data.prepare.summary import Summary
from pose.data.prepared_set import annotation_file
from pose.io.errors import UserError
from pose.io.files import remove_stale_temp_files
from pose.keypoints.skeleton import built_in
from pose.params import CocoParams

YEARS = ("2017", "2014", "")  # none: what annotation tools write
FILES = ("train", "val")  # of a year
VALID_ID = "valid_id"
MIN_FOUND = 0.1  # share of `valid_id`'s images: with fewer, the list is about a larger set than this one


def prepare_coco(
    root: str | Path,
    folder: str | Path,
    *,
    params: CocoParams,
    seed: int,
    check: Check | None = None,
    workers: int | None = None,
) -> Summary:
    """Write the prepared folder. The same input gives the same bytes.

    root: folder with `coco` in it. check: of what will be scored on. workers: threads, all cores if None.
    UserError if nothing usable is present. Each file is written atomically, `coco.h5` last.
    """
    coco, folder = find_folder(root, "coco"), Path(folder)
    remove_stale_temp_files(folder, annotation_file(folder, SPLITS[0]).parent)
    files, notes = find_annotations(coco, params)
    images, rule = split_images(coco, files)
    title = f"prepared from {coco}: {', '.join(file.raw.path.name for file in files)}"
    summary = Summary(title, COLUMNS, [rule, *notes])
    images = choose(images, params, seed, summary, coco)
    packing = Packing(folder, files[0].raw, coco, check, workers, summary)
    count_kept(write_images(images, packing, params), summary)
    return summary


def find_annotations(coco: Path, params: CocoParams) -> tuple[list[Normalised], list[str]]:
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
    coco_joints = Joints(
        skeleton=built_in("coco"),
        assumed=params.assume_joints,
        name="person",
        ways={"assumed": "prepare.coco.assume_joints: true"},
    )
    files = [read_normalised(coco, path, coco_joints, params.exif) for path in paths_of[year]]
    if len(files) == 2:
        shared, valid_id = files[0].raw.people_of.keys() & files[1].raw.people_of.keys(), coco / VALID_ID
        if shared and valid_id.exists():
            where = f"{files[1].raw.path}: image {min(shared)} is in {files[0].raw.path.name} too"
            raise UserError(f"{where}, expected an id in one file, since {valid_id} lists them")
        if same := same_image(*files):
            raise UserError(f"{files[1].raw.path}: {same}, expected an image in one file")
        files = with_own_ids(files)
    notes = [line for file in files for line in file.changes.lines(file.raw.path.name)]
    unused = [path.name for other in YEARS if other != year for path in paths_of[other]]
    if unused:
        notes.append(f"not used beside {year}: {', '.join(unused)}")
    return files, notes


def split_images(coco: Path, files: Sequence[Normalised]) -> tuple[list[Image], str]:
    """All annotated images in their splits, and the rule as a line.

    The ids in `valid_id` validate, whichever file holds them, and all others train. Without it, or where
    nearly all of its images are missing (a list of the complete set beside a small part of it), the val
    file's images validate.
    """
    file_of = {entry["id"]: file for one in files for entry, _, file in one.images()}
    has_list = (coco / VALID_ID).exists()
    listed = read_valid_ids(coco / VALID_ID) if has_list else set()
    validate = file_of.keys() & listed
    found = sum(not file_of[image_id].missing for image_id in validate)
    both_files = len(files) == 2
    present = f"{found:,} of {VALID_ID}'s {len(listed):,} images are present"
    why = f"only {present}" if has_list else f"no {VALID_ID}"
    if validate and not (both_files and found < MIN_FOUND * len(listed)):
        rule = f"{present} and validate"
    elif both_files:
        val = files[1].raw
        validate = set(val.people_of)
        rule = f"split by file, since {why}: the images of {val.path.name} validate"
    else:
        raise UserError(
            f"{coco}: only {files[0].raw.path.name} and {why},"
            f" expected a train and a val file, or ids of its images in {VALID_ID}"
        )
    return [
        Image(entry, people, SPLITS[entry["id"] in validate], file)
        for one in files
        for entry, people, file in one.images()
    ], rule
