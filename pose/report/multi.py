"""What the report shows of a multi-person task: OKS AP beside published ones, the best and the worst images.

Legend: T OKS thresholds (0.50 to 0.95), D people detected in an image, K joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose.data.formats.coco_json import read_annotations
from pose.data.image_set import SPLITS
from pose.inference.draw import ALONE, HUES, draw_people, shades
from pose.io.errors import UserError
from pose.keypoints.geometry import transform
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.metrics.oks import TEN, CocoEvaluation
from pose.params import MultiParams
from pose.report.common import (
    OwnRow,
    ProblemReport,
    best_and_worst,
    caution,
    comparison_table,
    curve_chart,
    joint_table,
    number_row,
    page_image,
)
from pose.report.content import Block, Chart, LegendEntry, PageImage, Table
from pose.report.files import read_coco_results
from pose.report.run import Run
from pose.tasks.multi import MultiData, MultiPerson

IMAGE_HEIGHT = 380  # px, unless the image would be more than twice as wide
COCO_TRAIN = 50_000  # images; COCO's training set has about 64,000 with annotated joints
OWN_ROWS = (
    OwnRow("this run", "COCO", "images.all"),
    OwnRow("on images that show a labelled person", "COCO with people", "images.with people"),
    OwnRow("people refined", "COCO refined", "images.all"),
    OwnRow("grouped by distance alone", "COCO without tags", "images.all"),
    OwnRow("on images it was trained on", "COCO train", "images.train"),
)
LEGEND = (
    LegendEntry(
        "predicted: a colour for each person, light on their left, dark on their right",
        tuple(shades(HUES[0]).values()),
    ),
    LegendEntry("a person alone: left, right, middle", tuple(ALONE.values())),
    LegendEntry("truth, with dots in the colour of the side"),
)


@dataclass(frozen=True)
class ImageResult:
    """pycocotools' result for one evaluated image. row: of the prepared set. true: annotated people.

    score_D: of the detections, in descending order. matched_TD: on a true person. counted_TD: False for
    detections on crowds and on people without annotated joints, which are neither right nor wrong.
    """

    row: int
    true: int
    score_D: np.ndarray
    matched_TD: np.ndarray
    counted_TD: np.ndarray

    def positives(self, min_score: float) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives among the detections of at least this score, by threshold, (T,)."""
        counted_TD = self.counted_TD & (self.score_D >= min_score)
        true_T = (counted_TD & self.matched_TD).sum(axis=1)
        return true_T, counted_TD.sum(axis=1) - true_T

    def quality(self, min_score: float) -> float:
        """The share of people found, false positives counted as missed; mean over thresholds."""
        true_T, false_T = self.positives(min_score)
        return float((true_T / (self.true + false_T)).mean())


def comparison(run: Run, data: MultiData | None) -> Block:
    """Our metrics beside the published ones, and whether they can be compared."""
    words = caution(
        run.params.data.root,
        data,
        as_published=data is not None and len(data.rows("train")) >= COCO_TRAIN,
        published="The published networks were trained on about 64,000 photographs of COCO and evaluated "
        "on others: the 500 of valid_id, or the 20,000 of test-dev, whose annotations are not public.",
        comparable="The rows of valid_id are comparable if these are its 500 images; test-dev is others.",
    )
    notes = [
        "As pycocotools prints them. AP, AR: means over OKS (object keypoint similarity) 0.50 to 0.95; "
        "50, 75: at 0.50 and 0.75. M, L: people of 32² to 96² pixels, and larger."
    ]
    names = ("by_tags", "detection_threshold", "tag_threshold", "max_distance")
    if all(f"grouping.{name}" in run.metrics for name in names):
        by_tags, detection, tag, distance = (run.metrics[f"grouping.{name}"] for name in names)
        tunes = isinstance(run.problem, MultiParams) and run.problem.thresholds.tune
        tuned = f"tuned on {run.val_samples}" if tunes else "from params.yaml"
        notes.append(
            f"People are told apart by {'their tags' if by_tags else 'the distance of their joints'}. "
            f"Thresholds, {tuned}: peaks above {detection:g}, tags at most {tag:g} apart; "
            f"by distance alone, joints at most {distance:g} of the image's longer side apart."
        )
    table = comparison_table(run, OWN_ROWS, TEN, 3, notes)
    return (
        Block("Published metrics", caution=(words,), table=table)
        if run.is_published
        else Block("Metrics", table=table)
    )


def precision_chart(path: Path, run: Run) -> Chart:
    """Precision over recall at some OKS thresholds, and its mean over all."""
    note = "Of the people found, best scores first, the share that is right. mean: over OKS 0.50 to 0.95."
    return curve_chart(path, "recall", "Precision over recall", run.task, note, y_top=1)


def joints(path: Path, skeleton: Skeleton | None) -> Table:
    """Similarity joint by joint."""
    notes = {
        "joint": "Of people found at an OKS of 0.5 or better.",
        "similarity": "Similarity: 1 at the true place, less further off, by the person's size and the "
        "annotators' spread for the joint; its mean over a person is their OKS.",
        "right": "Right: percent with a similarity above 0.5.",
    }
    return joint_table(path, skeleton, notes, fractions=("similarity",))


def images(run: Run, data: MultiData, people_of: Mapping[int, People]) -> list[Block]:
    """The best and the worst images, of those with several people if there are any: one needs no grouping."""
    rows, id_I = data.rows("evaluation"), data.images.id_I
    evaluated = set(id_I[rows].tolist())
    strange = people_of.keys() - evaluated
    if strange:
        path = run.paths.predictions(REPORT.suffix)
        raise UserError(f"{path}: found image {min(strange)}, expected evaluation images of {data.path}")
    if not evaluated:
        return []
    annotations = data.images.annotations("validation")
    if (
        not evaluated <= read_annotations(annotations, data.skeleton).people_of.keys()
    ):  # pycocotools does not check
        raise UserError(f"{annotations}: lacks evaluation images of {data.path}")
    K = len(data.skeleton)
    nobody = People(np.empty((0, K, 2)), np.empty((0, K)), np.empty(0))
    found = [people_of.get(image_id, nobody) for image_id in id_I[rows].tolist()]
    results = _results(data.evaluate(found, rows), rows, id_I)
    min_score = _balanced_score(results)
    several = [one for one in results if one.true > 1]

    def rank(one: ImageResult) -> tuple[float, int]:
        return -one.quality(min_score), one.true + int(one.positives(min_score)[1][0])

    def image(one: ImageResult) -> PageImage:
        return _draw(data, one, people_of.get(int(id_I[one.row]), nobody), min_score)

    ranked = sorted(several or results, key=rank)
    order = (
        f"{len(ranked):,} evaluated images with {'several ' if several else ''}annotated people, by the "
        "share found at OKS 0.50 to 0.95, false positives counted as missed; captions are at 0.50. "
        f"Predictions below a score of {min_score:.2f}, where F1 is highest, are not shown; AP counts them."
    )
    return best_and_worst(ranked, run.params.report.people, image, unit="images", order=order, legend=LEGEND)


def data_table(data: MultiData) -> Table:
    """How many images and people are in which split."""
    rows = []
    for split in SPLITS:
        row_I = data.images.rows(split)
        people = np.isin(data.images.row_N, row_I)
        counts = len(row_I), len(np.unique(data.images.row_N[people])), int(people.sum())
        rows.append(number_row(split.capitalize(), [f"{count:,}" for count in counts]))
    held_out = len(data.images.rows("train")) - len(data.rows("train"))
    notes = (
        "People: with annotated joints; others, and crowds, count neither in the loss nor in the evaluation. "
        f"{held_out:,} training images are held out to validate while training and to tune thresholds; "
        "the split validation is for the evaluation.",
    )
    return Table(("Images by split", "Images", "With people", "People"), rows, notes=notes)


def _results(evaluation: CocoEvaluation, rows: np.ndarray, id_I: np.ndarray) -> list[ImageResult]:
    """Of the images with annotated people."""
    row_of = {int(id_I[row]): int(row) for row in rows}
    results = []
    for image in evaluation.coco_eval.evalImgs[: len(rows)]:  # the first of the sizes: all
        true = 0 if image is None else int((np.asarray(image["gtIgnore"]) == 0).sum())
        if true:
            score_D = np.array(image["dtScores"], dtype=np.float64)
            matched_TD, counted_TD = np.asarray(image["dtMatches"]) > 0, np.asarray(image["dtIgnore"]) == 0
            results.append(ImageResult(row_of[image["image_id"]], true, score_D, matched_TD, counted_TD))
    return results


def _balanced_score(results: Sequence[ImageResult]) -> float:
    """The least score at which F1, at OKS 0.50 over all images, is highest; 0 if nobody is found at all."""
    if not results:
        return 0.0
    counted_D = np.concatenate([one.counted_TD[0] for one in results])
    score_D = np.concatenate([one.score_D for one in results])[counted_D]
    matched_D = np.concatenate([one.matched_TD[0] for one in results])[counted_D]
    order = np.argsort(-score_D, kind="stable")
    f1_D = 2 * np.cumsum(matched_D[order]) / (np.arange(1, len(order) + 1) + sum(one.true for one in results))
    return float(score_D[order][f1_D.argmax()]) if f1_D.any() else 0.0


def _draw(data: MultiData, one: ImageResult, found: People, min_score: float) -> PageImage:
    image_HW3, affine = data.images.image(one.row)
    joint_PK2, labelled_PK = data.images.joints(one.row)
    shown = found.above(min_score)
    shown = People(transform(affine, shown.joint_PK2), shown.score_PK, shown.score_P)
    truth = People(transform(affine, joint_PK2), labelled_PK.astype(np.float64), np.ones(len(joint_PK2)))
    height, width = image_HW3.shape[:2]
    zoom = min(IMAGE_HEIGHT / height, 2 * IMAGE_HEIGHT / width)
    true_T, false_T = one.positives(min_score)
    caption = f"{true_T[0]} of {one.true} people found" + (f", {false_T[0]} false" if false_T[0] else "")
    image_HW3 = draw_people(image_HW3, shown, data.skeleton, truth=truth, zoom=zoom)
    return page_image(image_HW3, name=data.images.name(one.row), caption=caption)


REPORT = ProblemReport(
    sample="all people of an image",
    comparison=comparison,
    curve_file="precision.csv",
    curve=precision_chart,
    joints=joints,
    suffix=MultiPerson.predictions_suffix,
    read_predictions=read_coco_results,
    images=images,
    data_table=data_table,
)
