"""What the page shows of a multi-person task.

OKS AP beside published figures, what the tags are worth, best and worst images.

Legend: T OKS thresholds (0.50 to 0.95, the ten that AP is a mean over), D people found in an image, K joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose.data.formats.coco_json import is_labelled_person, read_annotations
from pose.data.image_set import SPLITS, ImageSet, annotation_file
from pose.inference.draw import ALONE, HUES, draw_people, shades
from pose.io.errors import UserError
from pose.io.paths import PREPARED, TaskPaths
from pose.keypoints.geometry import transform
from pose.keypoints.people import People
from pose.keypoints.skeleton import COCO
from pose.metrics.oks import TEN, CocoEvaluation
from pose.params import Params
from pose.report.charts import INK, SERIES, Line, line_chart
from pose.report.common import (
    add_from,
    best_and_worst,
    drawn_picture,
    figure_cells,
    is_drawn,
    joint_table,
    not_comparable,
    published_cells,
    signed,
)
from pose.report.content import Cell, Chart, Findings, Gallery, Key, Picture, Row, Table, Tile
from pose.report.files import read_history, read_results
from pose.report.published import published_for
from pose.tasks.multi import MultiData

HEIGHT = 380  # px of a drawn picture, unless that makes it more than twice as wide
WHOLE_COCO = 50_000  # images; COCO's training set has about 64,000 with annotated joints
HEADLINE = {f"COCO.{name}": name for name in ("AP", "AP50", "AR")}
TABLES = {  # of metrics/{task}.json: what our rows of the comparison are
    "COCO": "{task}, this run",
    "COCO without tags": "{task}, grouped by distance alone",
    "COCO train": "{task}, on images it was trained on",
}
THRESHOLDS = ("detection_threshold", "tag_threshold", "max_distance")
LEGEND = (
    Key(
        "predicted: each person in a colour, their left side light, their right deep",
        tuple(shades(HUES[0]).values()),
    ),
    Key("somebody found alone: left, right, middle", tuple(ALONE.values())),
    Key("truth, with dots in the colour of the side"),
)


@dataclass(frozen=True)
class Tested:
    """What pycocotools makes of one test image (of its row in the prepared set) with `true` annotated people.

    score_D: of the people found, the surest first. right_TD: who lies on a true person that no surer one lies
    on. counted_TD: all but those who lie on a crowd or on people whose joints are not annotated, and are
    neither right nor wrong.
    """

    row: int
    true: int
    score_D: np.ndarray
    right_TD: np.ndarray
    counted_TD: np.ndarray

    def above(self, least: float) -> tuple[np.ndarray, np.ndarray]:
        """How many of the people with at least this score are right, and how many are wrong, by threshold."""
        right_T, counted_T = (
            (some_TD & (self.score_D >= least)).sum(axis=1) for some_TD in (self.right_TD, self.counted_TD)
        )
        return right_T, counted_T - right_T


def watched(params: Params) -> str:
    """What is looked at while training."""
    return "images held out of training" if params.multi.held_out else "images trained on"


def findings(params: Params, task: str, figures: Mapping[str, float], root: Path) -> Findings:
    """All that can be made of the files that are there; what is not is named in `missing`."""
    found = Findings(legend=LEGEND)
    found.tiles = _tiles(figures)
    found.people = _tested_on(figures)
    found.comparison = _comparison(params, task, figures)
    data = None
    try:
        data = MultiData(ImageSet(root / PREPARED["multi"]), params.multi, max_val=0)
    except UserError as error:
        found.missing.append(f"Pictures and counts: {error}")
    found.caution = caution(
        params.data.root, *(0 if data is None else len(data.rows(part)) for part in ("train", "evaluation"))
    )
    path = root / TaskPaths(task).predictions(".json")
    try:
        people_of = read_results(path, joints=len(COCO))
        if data is not None:
            found.galleries = _galleries(data, people_of, path, params)
    except UserError as error:
        found.missing.append(f"Best and worst images: {error}")
    plots = root / TaskPaths(task).plots
    add_from(found, plots / "precision.csv", found.charts, lambda path: _precision(path, task))
    add_from(found, plots / "joints.csv", found.tables, _joints)
    return found


def data_table(root: Path) -> Table:
    """How many images, people and crowds are in which split; UserError if the prepared set cannot be read."""
    folder = root / PREPARED["multi"]
    images = ImageSet(folder)
    rows, total = [], np.zeros(5, dtype=np.int64)
    for split, name in zip(SPLITS, ("Train", "Validation (tested on)"), strict=True):
        people = [
            person
            for some in read_annotations(annotation_file(folder, split)).people_of.values()
            for person in some
        ]
        labelled, crowds = (
            sum(map(is_labelled_person, people)),
            sum(bool(person["iscrowd"]) for person in people),
        )
        row_N = images.rows(split)
        count_5 = np.array(
            [
                len(row_N),
                len(np.intersect1d(row_N, images.row_N)),
                labelled,
                len(people) - labelled - crowds,
                crowds,
            ]
        )
        rows.append(_count_row(name, count_5))
        total += count_5
    columns = ("Split", "Images", "With people", "People", "People without joints", "Crowds")
    notes = (
        "People: with annotated joints. Those without, and crowds (many people under one outline), are neither right nor wrong answers; "
        "the loss does not look at crowds. A few training images are held out (multi.held_out), watched, and used to choose thresholds.",
    )
    return Table("Images by split", columns, (*rows, _count_row("All", total)), notes=notes)


def caution(root: str, trained: int, tested: int) -> tuple[str, ...]:
    """Why our figures and the published ones must not be read as a ranking.

    Trained, tested: images, 0 if not known.
    """
    published = (
        "The published networks learned from COCO's photographs, about 64,000 with annotated people, and were tested on others of them: "
        "500 (valid_id), or the 20,000 of test-dev, whose annotations are not public."
    )
    if not tested:
        return (
            f"Not comparable as they stand: what this run learned from and was tested on is not known here. {published}",
        )
    if is_drawn(root) or trained < WHOLE_COCO:
        return (not_comparable(root, trained, tested, "images", published),)
    return (
        f"Trained on {trained:,} images of {root}, tested on {tested:,}. The rows of the 500 images of valid_id are comparable if these "
        "are those 500; test-dev is other images, whose annotations are not public.",
    )


def _tiles(figures: Mapping[str, float]) -> list[Tile]:
    notes = {
        "AP": f"average precision, the mean of OKS thresholds 0.50 to 0.95; {_tested_on(figures)}",
        "AP50": "average precision where an OKS of 0.5 is enough",
        "AR": "average recall: people found, the mean of OKS thresholds 0.50 to 0.95",
    }
    tiles = [
        Tile(name, f"{figures[f'COCO.{name}']:.3f}", note)
        for name, note in notes.items()
        if f"COCO.{name}" in figures
    ]
    whole, without = (figures.get(f"{table}.AP") for table in ("COCO", "COCO without tags"))
    if whole is not None and without is not None:
        note = (
            f"AP with tags less AP without: grouped by distance alone, the same heatmaps give {without:.3f}"
        )
        tiles.append(Tile("Worth of the tags", signed(whole - without, 3), note))
    return tiles


def _tested_on(figures: Mapping[str, float]) -> str:
    if not {"images.all", "images.people"} <= figures.keys():
        return ""
    return f"{figures['images.people']:,.0f} people in {figures['images.all']:,.0f} images"


def _comparison(params: Params, task: str, figures: Mapping[str, float]) -> Table:
    root, rows = params.data.root, []
    for table, what in TABLES.items():
        ours = {name: figures[f"{table}.{name}"] for name in TEN if f"{table}.{name}" in figures}
        if ours:
            images = figures.get("images.train" if table == "COCO train" else "images.all")
            on = Cell(root if images is None else f"{root}, {images:,.0f} images")
            rows.append(Row((Cell(what.format(task=task)), on, *figure_cells(ours, TEN, 3)), marked=True))
    rows += [Row(published_cells(row, TEN, 3)) for row in published_for("multi")]
    notes = [
        "By object keypoint similarity (OKS), as pycocotools prints it. 50 and 75: at an OKS of 0.5 and 0.75 instead of the mean from 0.50 "
        "to 0.95. M and L: people who cover 32² to 96² pixels of their image, and more."
    ]
    if all(f"grouping.{name}" in figures for name in THRESHOLDS):
        detection, tag, reach = (figures[f"grouping.{name}"] for name in THRESHOLDS)
        source = f"chosen on {watched(params)}" if params.multi.thresholds.tune else "as params.yaml has them"
        notes.append(
            f"Grouped here: peaks above {detection:g}, tags no further apart than {tag:g}; by distance alone, {reach:g} of the image's "
            f"longer side. These are {source}."
        )
    return Table(
        "Beside the published figures",
        ("What, and who says so", "Tested on", *TEN),
        tuple(rows),
        2,
        tuple(notes),
    )


def _precision(path: Path, task: str) -> Chart:
    table = read_history(path, "recall")
    lines = []
    for number, name in enumerate(column for column in table.columns[::-1] if column != "recall"):
        label, colour = ("Mean", INK) if name == "mean" else (name, SERIES[number])
        lines.append(
            Line(label, table["recall"].to_numpy(), table[name].to_numpy(), colour, bold=name == "mean")
        )
    svg = line_chart(
        lines,
        name=f"{task}-precision",
        title=f"Precision of {task} over recall",
        x_label="recall",
        y_limits=(0, 1),
    )
    return Chart(
        "Precision over recall",
        svg,
        "Of the people found, the surest first, the share that is right. Mean: of OKS 0.50 to 0.95.",
    )


def _joints(path: Path) -> Table:
    notes = {
        "joint": "Of people found at an OKS of 0.5 or better.",
        "similarity": "Similarity: 1 at the true place, less the further off, measured by the person's size and by how far annotators "
        "differ on this joint; its mean over a person is OKS.",
        "right": "Right: percent with a similarity above 0.5.",
    }
    return joint_table(path, order=COCO.joints, counted=COCO.joints, notes=notes, fractions=("similarity",))


def _galleries(data: MultiData, people_of: Mapping[int, People], path: Path, params: Params) -> list[Gallery]:
    rows, id_I = data.rows("evaluation"), data.images.id_I
    strange = people_of.keys() - set(id_I[rows].tolist())
    if strange:
        raise UserError(
            f"{path}: image {min(strange)} is no test image of {data.path}: made from another one"
        )
    if not len(rows):
        return []
    annotations = data.images.annotations("validation")
    if (
        not set(id_I[rows].tolist()) <= read_annotations(annotations).people_of.keys()
    ):  # pycocotools checks nothing
        raise UserError(f"{annotations}: lacks test images of {data.path}: made from another one")
    nobody = People(np.empty((0, len(COCO), 2)), np.empty((0, len(COCO))), np.empty(0))
    found = [people_of.get(id, nobody) for id in id_I[rows].tolist()]
    tested = _tested(data.evaluate(found, rows), rows, id_I)
    least = _balanced_score(tested)
    several = [one for one in tested if one.true > 1]  # with one person there is nothing to group
    order = sorted(several or tested, key=lambda one: (-_mark(one, least), one.true + one.above(least)[1][0]))
    which = (
        f"the {len(order):,} test images with {'several' if several else ''} annotated people: by the share that was found, those found by "
        "mistake counting as missed, at OKS thresholds from 0.50 to 0.95. Captions count at 0.5. Drawn and counted is who has a score of "
        f"at least {least:.2f}, by which precision and recall are best balanced; AP looks at the others too, but they cost it little."
    )

    def picture(one: Tested) -> Picture:
        return _picture(data.images, one, people_of.get(int(id_I[one.row]), nobody), least)

    return best_and_worst(order, params.report.people, picture, things="images", which=which)


def _tested(evaluated: CocoEvaluation, rows: np.ndarray, id_I: np.ndarray) -> list[Tested]:
    """The images that show annotated people."""
    row_of = {int(id_I[row]): int(row) for row in rows}
    tested = []
    for image in evaluated.coco_eval.evalImgs[: len(rows)]:  # those of the first of the sizes: all
        true = 0 if image is None else int((np.asarray(image["gtIgnore"]) == 0).sum())
        if true:
            counted_TD = np.asarray(image["dtIgnore"]) == 0
            right_TD = (np.asarray(image["dtMatches"]) > 0) & counted_TD
            tested.append(
                Tested(
                    row_of[image["image_id"]],
                    true,
                    np.array(image["dtScores"], dtype=np.float64),
                    right_TD,
                    counted_TD,
                )
            )
    return tested


def _mark(one: Tested, least: float) -> float:
    right_T, wrong_T = one.above(least)
    return float((right_T / (one.true + wrong_T)).mean())


def _balanced_score(tested: Sequence[Tested]) -> float:
    """The score from which on F1, at an OKS of 0.5, is highest over all images; 0 if nobody is found at all."""
    if not tested:
        return 0.0
    counted_D = np.concatenate([one.counted_TD[0] for one in tested])
    score_D, right_D = (
        np.concatenate(parts)[counted_D]
        for parts in zip(*((one.score_D, one.right_TD[0]) for one in tested), strict=True)
    )
    order = np.argsort(-score_D, kind="stable")
    f1_D = 2 * np.cumsum(right_D[order]) / (np.arange(1, len(order) + 1) + sum(one.true for one in tested))
    return float(score_D[order][f1_D.argmax()]) if f1_D.any() else 0.0


def _picture(images: ImageSet, one: Tested, found: People, least: float) -> Picture:
    image_HW3, affine = images.image(one.row)
    shown_D = found.score_P >= least
    joint_PK2, labelled_PK = images.joints(one.row)
    truth = People(transform(affine, joint_PK2), labelled_PK.astype(np.float64), np.ones(len(joint_PK2)))
    shown = People(
        transform(affine, found.joint_PK2[shown_D]), found.score_PK[shown_D], found.score_P[shown_D]
    )
    right, wrong = (int(count_T[0]) for count_T in one.above(least))
    height, width = image_HW3.shape[:2]
    return drawn_picture(
        draw_people(image_HW3, shown, COCO, truth=truth, zoom=min(HEIGHT / height, 2 * HEIGHT / width)),
        name=images.name(one.row),
        caption=f"{right} of {one.true} people found" + (f", {wrong} false" if wrong else ""),
    )


def _count_row(name: str, counts: np.ndarray) -> Row:
    return Row((Cell(name), *(Cell(f"{count:,}", number=True) for count in counts.tolist())))
