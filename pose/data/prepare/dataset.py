"""A data set of one's own, named under `datasets` in params.yaml -> the prepared folder of either problem.

Its sources are read as COCO-format files are, whatever they are: such files as COCO or an annotation tool
writes them, folders of LSP, LSPET and MPII, or a published `lsp_mpii.h5`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pose.data.formats.coco_json import RawCoco
from pose.data.image_set import SPLITS
from pose.data.prepare.annotated import COLUMNS, Check, Image, Packing, choose, count_kept
from pose.data.prepare.categories import Joints, named_skeleton
from pose.data.prepare.images import write_images
from pose.data.prepare.normalise import Normalised, normalise, read_normalised, with_own_ids
from pose.data.prepare.people import write_people
from pose.data.prepare.summary import Summary
from pose.data.prepare.tables import read_table
from pose.data.prepared_set import annotation_file
from pose.io.errors import UserError
from pose.io.files import remove_stale_temp_files
from pose.keypoints.skeleton import DEFAULT_SIGMA, Skeleton
from pose.params import CocoParams, DatasetParams, PrepareParams, SplitCounts

# Words in the names of files whose images are evaluated, or trained on.
EVALUATED = re.compile(r"(mini)?(val|valid|validation|test)(set)?")
TRAINED = re.compile(r"(mini)?(train|training)(set)?")


def prepare_dataset(
    name: str,
    spec: DatasetParams,
    folder: str | Path,
    *,
    params: PrepareParams,
    seed: int,
    check: Check | None = None,
    workers: int | None = None,
) -> Summary:
    """Write the prepared folder of a data set. The same input gives the same bytes.

    check: of what will be scored on. workers: threads, all cores if None. UserError if nothing usable is
    present. Each file is written atomically, after the annotations.
    """
    folder = Path(folder)
    remove_stale_temp_files(folder, annotation_file(folder, SPLITS[0]).parent)
    images, raw, summary = choose_images(name, spec, params=params.coco, seed=seed)
    root = Path(os.path.commonpath([str(image.file.path.parent) for image in images]))
    packing = Packing(folder, raw, root, check, workers, summary)
    if "multi" not in spec.problems:
        images = write_people(images, packing, params, annotate=True)
    else:
        images = write_images(images, packing, params.coco)
        if "single" in spec.problems:  # all images are annotated, also those without a row in this file
            write_people(images, packing, params, annotate=False)
    count_kept(images, summary)
    return summary


def choose_images(
    name: str, spec: DatasetParams, *, params: CocoParams, seed: int
) -> tuple[list[Image], RawCoco, Summary]:
    """The images to use, as far as the annotations tell, what their files share, and what was left out.

    Errors as of `prepare_dataset`.
    """
    sources = read_sources(name, spec, params.exif)
    raw = sources[0].raw
    images, rule = split_images(sources, spec, seed)
    title = f"data set {name}, from {', '.join(str(one.raw.path) for one in sources)}"
    names = short_names([one.raw.path for one in sources])
    notes = [line for one, file in zip(sources, names, strict=True) for line in one.changes.lines(file)]
    summary = Summary(title, COLUMNS, [describe(raw.skeleton), rule, *notes])
    everything = params.model_copy(update={"images": SplitCounts(train=0, validation=0)})
    return choose(images, everything, seed, summary, name), raw, summary


def read_sources(name: str, spec: DatasetParams, exif: str) -> list[Normalised]:
    """All annotation files of a data set, with ids of their own; UserError as of `prepare_dataset`."""
    skeleton, completes = named_skeleton(spec.skeleton, name)
    key = f"datasets.{name}"
    joints = Joints(
        skeleton=skeleton,
        completes=completes,
        file=spec.skeleton or "",
        category=spec.category,
        renamed=spec.joints,
        assumed=spec.assume_joints,
        ways={
            "category": f"--category or {key}.category",
            "renamed": f"{key}.joints",
            "assumed": f"--skeleton with --assume-joints (or {key}.assume_joints: true)",
        },
    )
    sources: list[Normalised] = []
    mixed = len(set(map(os.path.isabs, spec.sources))) > 1
    for place in map(Path, map(os.path.abspath, spec.sources) if mixed else spec.sources):
        if table := read_table(place):
            base = place.parent if place.is_file() else place
            if joints.skeleton is None:
                joints = replace(joints, skeleton=table.skeleton)
            ids = [image["id"] for image in table.content["images"]]
            validates = [number in table.listed for number in ids] if table.listed else None
            own = normalise(table.content, base, table.file, joints, exif, table.changes)
            sources.append(replace(own, validates=validates))
        else:
            sources += [_read_file(path, joints, exif) for path in annotation_files(place)]
        joints = replace(joints, skeleton=sources[0].raw.skeleton)  # all others have its joints too
    return with_own_ids(sources) if len(sources) > 1 else sources


def annotation_files(place: Path) -> list[Path]:
    """The COCO-format files of a source: itself, or those in its folder `annotations` or in the folder."""
    if place.is_file():
        return [place]
    found = _json_files(place)
    if not found and (inner := [one.name for one in sorted(place.glob("*/")) if _json_files(one)]):
        folders = ", ".join(inner)[:200]
        raise UserError(f"{place}: found annotations in its folders {folders}, expected these as sources")
    if not found:
        what = "no annotations in it" if place.is_dir() else "no such file or folder"
        expected = "annotations/*.json or *.json in COCO's format, joints.mat of LSP, or MPII's"
        raise UserError(f"{place}: {what}, expected {expected}")
    return [path for path in found if "keypoints" in path.stem] or found


def _json_files(folder: Path) -> list[Path]:
    return sorted((folder / "annotations").glob("*.json")) or sorted(folder.glob("*.json"))


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many parts as it takes to tell all of them apart."""
    names = [path.name for path in paths]
    for count in range(2, max(len(path.parts) for path in paths) + 1):
        if len({*names}) == len({*paths}):
            break
        names = [Path(*path.parts[-count:]).as_posix() for path in paths]
    return names


def split_images(sources: Sequence[Normalised], spec: DatasetParams, seed: int) -> tuple[list[Image], str]:
    """All annotated images in their splits, and the rule as a line.

    Where the sources do not say which images validate, or say it of all or none that are there (a list of a
    complete set beside a small part of it), a share of them is drawn: the first by a hash of their names, one
    at least.
    """
    listed = [(*image, source.raw.lacking) for source in sources for image in source.images()]
    said: list[bool | None] = []
    for source in sources:
        said += source.validates or [None] * len(source.files)
    present = [k for k, (_, _, file, _) in enumerate(listed) if not file.missing]

    def draw(undecided: set[int]) -> list[bool]:
        some = [k for k in present if k in undecided]
        some.sort(key=lambda k: hashlib.sha256(f"{seed} {listed[k][0]['file_name']}".encode()).digest())
        count = min(max(round(spec.validation * len(some)), 1), max(len(some) - 1, 0))
        drawn = set(some[:count])
        return [k in drawn if k in undecided else bool(one) for k, one in enumerate(said)]

    undecided = {k for k, one in enumerate(said) if one is None}
    validates = draw(undecided)
    if len({validates[k] for k in present}) < 2:
        undecided = set(range(len(listed)))
        validates = draw(undecided)
    rule = f"{spec.validation:g} of the images validate, drawn by the seed"
    if not undecided:
        rule = "split as the sources say"
    elif len(undecided) < len(listed):
        rule = f"split as the sources say; of those that do not, {rule}"
    images = [
        Image(entry, people, SPLITS[int(one)], file, lacking)
        for (entry, people, file, lacking), one in zip(listed, validates, strict=True)
    ]
    return images, rule


def describe(skeleton: Skeleton) -> str:
    """A line on a skeleton, with what was not given but inferred."""
    joints = skeleton.joints
    flips = ", ".join(f"{joints[one]} - {joints[other]}" for one, other in skeleton.flips[:6]) or "none"
    more = f" and {len(skeleton.flips) - 6} more" if len(skeleton.flips) > 6 else ""
    sigmas = "of its own" if skeleton.sigmas else f"{DEFAULT_SIGMA:g} for each joint"
    pair = skeleton.reference
    length = f"{joints[pair[0]]} to {joints[pair[1]]}" if pair else "the longer side of the box"
    return (
        f"skeleton {skeleton.name}: {len(joints)} joints; flips: {flips}{more}; sigmas: {sigmas};"
        f" reference length of PCK: {length}"
    )


def _read_file(path: Path, joints: Joints, exif: str) -> Normalised:
    folder = path.parent.parent if path.parent.name == "annotations" else path.parent
    file = read_normalised(folder, path, joints, exif)
    evaluated = is_evaluated(path)
    return file if evaluated is None else replace(file, validates=[evaluated] * len(file.files))


def is_evaluated(path: Path) -> bool | None:
    """Whether the images of an annotation file are evaluated, by its name or its folder's; None if unsaid.

    By whole words: `train_latest` is no test. Of a folder by its whole name, as Roboflow lays out
    `valid/_annotations.coco.json`: people call folders all kinds of things.
    """
    for words in (re.split(r"[^a-z]+", path.stem.lower()), [path.parent.name.lower()]):
        evaluated, trained = (any(map(one.fullmatch, words)) for one in (EVALUATED, TRAINED))
        if evaluated != trained:
            return evaluated
    return None
