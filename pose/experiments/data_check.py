"""What is in a data set, before training on it: in words, and as a page with drawn samples.

N people, K joints.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pose.data.formats.coco_json import Entry, keypoints_of
from pose.data.image_set import SPLITS
from pose.data.prepare.annotated import (
    Image,
    annotations_of,
    check_splits,
    count_kept,
    read_annotated,
)
from pose.data.prepare.dataset import choose_images
from pose.data.prepare.packing import Unusable, in_threads
from pose.data.prepare.summary import Summary
from pose.inference.draw import ALONE, HUES, draw_people, shades
from pose.io.errors import UserError
from pose.io.files import write_text
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.metrics.statistics import Statistics, find_faults, statistics
from pose.metrics.truth import check_truth
from pose.params import CocoParams, DatasetParams, MultiParams, Params, SingleParams, packing_fault
from pose.report.charts import SERIES, Line, line_chart, thinned
from pose.report.common import page_image
from pose.report.content import Block, Cell, Chart, LegendEntry, PageImage, Row, Section, Table
from pose.report.page import render

SAMPLES = 24  # images that are drawn
HEIGHT, LARGE = 480, 900  # px: of a sample, of the longer side of a person alone
ROOM = 0.15  # of the person's box, around it
HIDDEN = 0.3  # confidence as which hidden joints are drawn, fainter than visible ones
LEGEND = (
    LegendEntry(
        "a colour for each person, light on their left, dark on their right", tuple(shades(HUES[0]).values())
    ),
    LegendEntry("a person alone: left, right, middle", tuple(ALONE.values())),
)
CHARTS: Mapping[str, tuple[str, Callable[[Statistics], np.ndarray]]] = {
    "Size": ("longer side of the box, px", lambda one: one.size_N),
    "Size in the image": ("longer side of the box over that of the image", lambda one: one.share_N),
    # Joints on a level line: a pixel high.
    "Shape": (
        "width of the box over its height",
        lambda one: one.box_N4[:, 2] / one.box_N4[:, 3].clip(min=1),
    ),
    "People of an image": ("people with labelled joints", lambda one: one.people_I),
}


def check_data(name: str, spec: DatasetParams, params: Params, folder: Path) -> list[str]:
    """Write the page `index.html` into a folder; returns what to say, the summary of the preparation first.

    UserError, as of the preparation, for a data set that could not be prepared at all.
    """
    images, raw, summary = choose_images(name, spec, params=params.prepare.coco, seed=params.seed)
    images, faults = _readable(images, params.prepare.coco, summary)
    check_splits(images, summary, name)
    count_kept(images, summary)
    of_split = {}
    for split in SPLITS:
        own = annotations_of(images, split, raw.path, raw)
        of_split[split] = statistics(own)
        try:
            found = check_truth(own)
        except UserError as error:
            found = [str(error)]
        faults += [f"{split}: {note}" for note in found]
        exactly = "" if found else "; found exactly as annotated, all count"
        summary.notes.append(f"{split}: {of_split[split]}{exactly}")
    of_split = {split: found for split, found in of_split.items() if len(found.box_N4)}
    if not of_split:
        raise UserError(f"{raw.path}: found nobody with a labelled joint, expected some")
    single, multi = _sections(name, params)
    used: dict[str, SingleParams | MultiParams] = {"single": single, "multi": multi}
    small = [fault for key in spec.problems if (fault := packing_fault(params.prepare, used[key]))]
    faults = [
        *find_faults(of_split, input_size=multi.input_size, crop=single.crop),
        *(f"large images are blurred: {fault}" for fault in small),
        *faults,
    ]
    blocks = [
        Block("What looks wrong", "" if faults else "Nothing was found.", caution=faults),
        Block("The joints", images=_largest(images, raw.skeleton, params.prepare.coco)),
        Block("Joint by joint", table=_joint_table(of_split)),
        Block("Sizes", charts=[_chart(title, of_split) for title in CHARTS]),
        Block(
            "Samples",
            f"{min(SAMPLES, len(images))} of {len(images):,} images, evenly spread over both splits.",
            legend=LEGEND,
            fainter="hidden",
            images=[_sample(image, raw.skeleton, params.prepare.coco) for image in _spread(images)],
        ),
    ]
    section = Section("data", name, blocks)
    page = render("Data check", name, summary.title, [_overview(summary)], [section])
    write_text(folder / "index.html", page)
    warnings = [f"warning: {fault}" for fault in faults]
    return [str(summary), *warnings, f"{folder / 'index.html'}: samples, joints and sizes"]


def _sections(name: str, params: Params) -> tuple[SingleParams, MultiParams]:
    """What each problem's task of a data set has, of several the one of the largest input."""
    single, multi = params.single, params.multi
    sections = [params.problem(task) for task, one in params.tasks.items() if one.dataset == name]
    for section in sorted(sections, key=lambda one: one.input_size):
        single, multi = (section, multi) if isinstance(section, SingleParams) else (single, section)
    return single, multi


def _readable(images: Sequence[Image], params: CocoParams, summary: Summary) -> tuple[list[Image], list[str]]:
    """The images whose files can be used, as the preparation reads them, and a line on equal files."""

    def attempt(image: Image) -> bytes | Unusable:
        try:
            return hashlib.sha256(read_annotated(image, params).data).digest()
        except Unusable as error:
            return error

    kept, same = [], defaultdict[bytes, list[Image]](list)
    with in_threads(attempt, images, "reading") as contents:
        for image, found in zip(images, contents, strict=True):
            if isinstance(found, Unusable):
                summary.left_out[image.split, found.reason] += 1
                summary.unusable.append(str(found))
            else:
                kept.append(image)
                same[found].append(image)
    equal = [found for found in same.values() if len(found) > 1]
    across = [found for found in equal if len({image.split for image in found}) > 1]
    lines = []
    for what, groups in (("in both splits", across), ("more than once", equal)):
        if groups:
            first = " and ".join(image.entry["file_name"] for image in groups[0][:2])
            lines.append(f"{len(groups):,} files are there {what} under several names (first: {first})")
    return kept, lines[:1]


def _overview(summary: Summary) -> Table:
    """What the summary prints."""
    rows = [
        Row(
            (
                Cell(split.capitalize()),
                *(Cell(f"{summary.counts[split, column]:,}", number=True) for column in summary.columns),
                Cell(summary.reasons(split) or "none", number=True),
            )
        )
        for split in SPLITS
    ]
    columns = ("Split", *(column.capitalize() for column in summary.columns), "Left out")
    return Table(columns, rows, notes=[*summary.notes, *summary.unusable[:SAMPLES]])


def _joint_table(of_split: Mapping[str, Statistics]) -> Table:
    """Of each joint the percent of people that it is labelled of, and of these that it is hidden."""
    skeleton = next(iter(of_split.values())).skeleton
    rows = []
    for k, joint in enumerate(skeleton.joints):
        cells = [Cell(joint)]
        for found in of_split.values():
            flag_N = found.flag_NK[:, k]
            labelled = 100 * float((flag_N > 0).mean())
            hidden = 100 * float((flag_N[flag_N > 0] == 1).mean()) if labelled else 0.0
            cells += [Cell(f"{one:.0f}", number=True, bar=one) for one in (labelled, hidden)]
        rows.append(Row(cells))
    columns = [f"{split}: {what}" for split in of_split for what in ("labelled", "hidden")]
    note = "Percent of the people; hidden: of those of whom it is labelled (flag 1 instead of 2)."
    return Table(("Joint", *columns), rows, notes=(note,))


def _chart(title: str, of_split: Mapping[str, Statistics]) -> Chart:
    x_label, values = CHARTS[title]
    lines = []
    for (split, found), colour in zip(of_split.items(), SERIES, strict=False):
        value_N = np.sort(values(found)).astype(np.float64)
        lines.append(
            Line(split, *thinned(value_N, 100 * np.arange(1, len(value_N) + 1) / len(value_N)), colour)
        )
    note = "Percent that have at most so much."
    return line_chart(title, lines, "data", x_label, note, y_limits=(0, 100))


def _spread(images: Sequence[Image]) -> list[Image]:
    chosen = np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).astype(int)
    return [images[k] for k in chosen.tolist()]


def _people(entries: Sequence[Entry], skeleton: Skeleton) -> People:
    joint_PK2, flag_PK1 = np.split(keypoints_of(entries, len(skeleton)), [2], axis=2)
    score_PK = np.where(flag_PK1[..., 0] == 1, HIDDEN, 1.0)
    return People(np.where(flag_PK1 > 0, joint_PK2, np.nan), score_PK, np.ones(len(entries)))


def _sample(image: Image, skeleton: Skeleton, params: CocoParams) -> PageImage:
    image_HW3 = read_annotated(image, params).image_HW3
    height, width = image_HW3.shape[:2]
    zoom = min(HEIGHT / height, 2 * HEIGHT / width)
    drawn = draw_people(image_HW3, _people(image.people, skeleton), skeleton, zoom=zoom, names=True)
    caption = f"{image.split}, {len(image.people)} of {len(image.annotations)} annotations have joints"
    return page_image(drawn, name=image.entry["file_name"], caption=caption, shows="the annotated joints")


def _largest(images: Sequence[Image], skeleton: Skeleton, params: CocoParams) -> list[PageImage]:
    """The person of whom most joints are labelled, and among these the largest; none off its image."""
    people = [(image, person) for image in images for person in image.people if _is_inside(image, person)]
    if not people:
        return []
    image, person = max(people, key=lambda one: (one[1]["num_keypoints"], *one[1]["bbox"][:1:-1]))
    image_HW3 = read_annotated(image, params).image_HW3
    found = _people([person], skeleton)
    low_2, high_2 = np.nanmin(found.joint_PK2[0], axis=0), np.nanmax(found.joint_PK2[0], axis=0)
    room = ROOM * float((high_2 - low_2).max()) + 1
    low_2 = np.maximum(np.floor(low_2 - room), 0).astype(int)
    high_2 = np.ceil(high_2 + room).astype(int)
    crop_HW3 = np.ascontiguousarray(image_HW3[low_2[1] : high_2[1], low_2[0] : high_2[0]])
    found = People(found.joint_PK2 - low_2, found.score_PK, found.score_P)
    zoom = LARGE / max(crop_HW3.shape[:2])
    drawn = draw_people(crop_HW3, found, skeleton, zoom=zoom, names=True)
    caption = f"{person['num_keypoints']} of {len(skeleton)} joints; names stand where there is room"
    return [page_image(drawn, name=image.entry["file_name"], caption=caption, shows="the annotated joints")]


def _is_inside(image: Image, person: Entry) -> bool:
    """Whether a labelled joint lies in the image."""
    joint_K3 = np.reshape(person["keypoints"], (-1, 3))
    inside_K = (joint_K3[:, :2] >= 0).all(axis=1) & (
        joint_K3[:, :2] < (image.entry["width"], image.entry["height"])
    ).all(axis=1)
    return bool((inside_K & (joint_K3[:, 2] > 0)).any())
