"""What the report shows of a multi-person task: OKS AP beside published ones, images by their errors.

Legend: T OKS thresholds (0.50 to 0.95), D people detected in an image, P annotated ones, K joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.formats.coco_json import read_annotations
from pose.data.image_set import SPLITS
from pose.inference.draw import ALONE, HUES, draw_people, shades
from pose.io.errors import UserError
from pose.keypoints.geometry import transform
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.metrics.oks import RIGHT, TEN, CocoEvaluation
from pose.params import MultiParams
from pose.report.common import (
    Curve,
    OwnRow,
    ProblemReport,
    Ranking,
    caution,
    comparison_table,
    joint_table,
    number_row,
    page_image,
)
from pose.report.content import Block, LegendEntry, PageImage, Table
from pose.report.files import read_coco_results
from pose.report.run import Run
from pose.tasks.multi import MultiData, MultiPerson

IMAGE_HEIGHT = 260  # px, unless the image would be more than twice as wide
COCO_TRAIN = 50_000  # images; COCO's training set has about 64,000 with annotated joints
MERGED_JOINTS = 2  # from which on a detection shows somebody; one where a skeleton has but one
OWN_ROWS = (
    OwnRow("this run", "COCO", "images.all"),
    OwnRow("on images that show a labelled person", "COCO with people", "images.with people"),
    OwnRow("people refined", "COCO refined", "images.all"),
    OwnRow("grouped by distance alone", "COCO without tags", "images.all"),
    OwnRow("on images it was trained on", "COCO train", "images.train"),
)
SWAPPED, MISSED, MERGED = "left/right swapped", "missed", "merged"
HALLUCINATED, INEXACT = "hallucinated", "inexact"
KINDS = {  # of error, at an OKS of 0.5
    SWAPPED: "joints of people found, where the person's left or right counterpart is",
    MISSED: "people of whom nothing fits well enough",
    MERGED: "predictions with two joints or more of a second person",
    HALLUCINATED: "predictions with less than two joints of anybody",
    INEXACT: "other predictions that are nobody, or somebody a second time",
}
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
    joints_DP: how many joints of a detection are those of a true person, or their counterparts. swapped_D:
    how many are the counterparts of the matched person's own. joints: of the skeleton.
    """

    row: int
    true: int
    score_D: np.ndarray
    matched_TD: np.ndarray
    counted_TD: np.ndarray
    joints_DP: np.ndarray
    swapped_D: np.ndarray
    joints: int

    def errors(self, min_score: float) -> dict[str, int]:
        """How often each of KINDS is among the detections of at least this score."""
        shown_D = self.counted_TD[0] & (self.score_D >= min_score)
        found_D, joints_DP = shown_D & self.matched_TD[0], np.sort(self.joints_DP, axis=1)[:, ::-1]
        least = min(MERGED_JOINTS, self.joints)
        merged_D = shown_D & (joints_DP[:, 1:2] >= least).any(axis=1)
        nobody_D = shown_D & ~found_D & ~merged_D
        empty_D = ~(joints_DP[:, :1] >= least).any(axis=1)
        errors = {SWAPPED: self.swapped_D[found_D], MISSED: self.true - found_D.sum(), MERGED: merged_D}
        errors |= {HALLUCINATED: nobody_D & empty_D, INEXACT: nobody_D & ~empty_D}
        return {kind: int(np.sum(count)) for kind, count in errors.items()}

    def positives(self, min_score: float) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives among the detections of at least this score, by threshold, (T,)."""
        counted_TD = self.counted_TD & (self.score_D >= min_score)
        true_T = (counted_TD & self.matched_TD).sum(axis=1)
        return true_T, counted_TD.sum(axis=1) - true_T

    def quality(self, min_score: float) -> float:
        """The share of people found, false positives counted as missed; mean over thresholds."""
        true_T, false_T = self.positives(min_score)
        return float((true_T / (self.true + false_T)).mean())


def comparison(runs: Sequence[Run], data: MultiData | None) -> Block:
    """Our metrics beside the published ones, and whether they can be compared."""
    run = runs[0]
    words = caution(
        run.data,
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
    notes += [note for note in map(_grouping, runs) if note]
    table = comparison_table(runs, OWN_ROWS, TEN, 3, notes)
    return (
        Block("Published metrics", caution=(words,), table=table, folded=True)
        if run.is_published
        else Block("All metrics", table=table, folded=True)
    )


def _grouping(run: Run) -> str:
    """How people are told apart; empty if unknown."""
    names = ("by_tags", "detection_threshold", "tag_threshold", "max_distance")
    if not all(f"grouping.{name}" in run.metrics for name in names):
        return ""
    by_tags, detection, tag, distance = (run.metrics[f"grouping.{name}"] for name in names)
    tunes = isinstance(run.problem, MultiParams) and run.problem.thresholds.tune
    tuned = f"tuned on {run.val_samples}" if tunes else "from params.yaml"
    apart = "their tags" if by_tags else "the distance of their joints"
    return (
        f"{run.task}: people are told apart by {apart}. Thresholds, {tuned}: "
        f"peaks above {detection:g}, tags at most {tag:g} apart; "
        f"by distance alone, joints at most {distance:g} of the image's longer side apart."
    )


def joints(path: Path, skeleton: Skeleton | None) -> Table:
    """Similarity joint by joint."""
    notes = {
        "joint": "Of people found at an OKS of 0.5 or better.",
        "similarity": "Similarity: 1 at the true place, less further off, by the person's size and the "
        "annotators' spread for the joint; its mean over a person is their OKS.",
        "right": "Right: percent with a similarity above 0.5.",
    }
    return joint_table(path, skeleton, notes, fractions=("similarity",))


def ranking(run: Run, data: MultiData, people_of: Mapping[int, People]) -> Ranking | None:
    """Images of several people by who is found in them, or if there are none, of one: one needs no grouping.

    None without evaluated images.
    """
    rows, id_I = data.rows("evaluation"), data.images.id_I
    evaluated = set(id_I[rows].tolist())
    strange = people_of.keys() - evaluated
    if strange:
        path = run.paths.predictions(REPORT.suffix)
        raise UserError(f"{path}: found image {min(strange)}, expected evaluation images of {data.path}")
    if not evaluated:
        return None
    annotations = data.images.annotations("validation")
    if (
        not evaluated <= read_annotations(annotations, data.skeleton).people_of.keys()
    ):  # pycocotools does not check
        raise UserError(f"{annotations}: lacks evaluation images of {data.path}")
    K = len(data.skeleton)
    nobody = People(np.empty((0, K, 2)), np.empty((0, K)), np.empty(0))
    found = [people_of.get(image_id, nobody) for image_id in id_I[rows].tolist()]
    everything = _results(data.evaluate(found, rows), rows, id_I)
    results = [one for one in everything if one.true]
    min_score = _balanced_score(results)
    several = [one for one in results if one.true > 1]

    def rank(one: ImageResult) -> tuple[float, int]:
        return -one.quality(min_score), one.true + int(one.positives(min_score)[1][0])

    def draw(one: ImageResult) -> PageImage:
        return _draw(data, one, people_of.get(int(id_I[one.row]), nobody), min_score)

    ranked = sorted(several or results, key=rank)
    order = (
        f"{len(ranked):,} evaluated images with {'several ' if several else ''}annotated people, by the "
        "share found at OKS 0.50 to 0.95, false positives counted as missed; captions are at 0.50. "
        f"Predictions below a score of {min_score:.2f}, where F1 is highest, are not shown; AP counts them."
    )
    return Ranking(
        unit="images",
        ranked=ranked,
        all=everything,
        count=len(rows),
        order=order,
        errors=lambda one: one.errors(min_score),
        draw=draw,
        legend=LEGEND,
    )


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
    """Of the images with annotated people or detections."""
    row_of = {int(id_I[row]): int(row) for row in rows}
    results = []
    for image in evaluation.coco_eval.evalImgs[: len(rows)]:  # the first of the sizes: all
        if image is not None:
            true = int((np.asarray(image["gtIgnore"]) == 0).sum())
            score_D = np.array(image["dtScores"], dtype=np.float64)
            matched_TD, counted_TD = np.asarray(image["dtMatches"]) > 0, np.asarray(image["dtIgnore"]) == 0
            shared, joints = _shared_joints(evaluation, image), len(evaluation.skeleton)
            results.append(
                ImageResult(row_of[image["image_id"]], true, score_D, matched_TD, counted_TD, *shared, joints)
            )
    return results


def _shared_joints(evaluation: CocoEvaluation, image: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """joints_DP and swapped_D of ImageResult. A joint is that which it is most similar to, if above RIGHT."""
    skeleton, anns = evaluation.skeleton, evaluation.coco_eval.cocoDt.anns
    people = [evaluation.coco_eval.cocoGt.anns[one] for one in image["gtIds"]]
    shape = (-1, len(skeleton), 3)
    found_DK3 = np.reshape([anns[one]["keypoints"] for one in image["dtIds"]], shape)
    true_PK3 = np.reshape([one["keypoints"] for one in people], shape)
    scale_PK = 2 * np.outer([one["area"] + np.spacing(1) for one in people], (2 * skeleton.oks_sigmas) ** 2)
    both_2PK3 = np.stack([true_PK3, true_PK3[:, skeleton.flip_index]])
    square_D2PK = np.square(found_DK3[:, None, None, :, :2] - both_2PK3[..., :2]).sum(axis=-1)
    known_D2PK = (found_DK3[:, None, None, :, 2] > 0) & (both_2PK3[..., 2] > 0)
    similarity_D2PK = np.where(known_D2PK, np.exp(-square_D2PK / scale_PK), 0)
    best_DPK = similarity_D2PK.max(axis=1)
    matched_DP1 = np.equal.outer(image["dtMatches"][0], image["gtIds"])[..., None]
    # Where a joint of the matched person is unlabelled, nobody knows whose the predicted one is.
    unknown_D1K = (matched_DP1 & (true_PK3[..., 2] == 0)).any(axis=1, keepdims=True)
    fits_DPK = (best_DPK > RIGHT) & ~unknown_D1K
    owned_DPK = fits_DPK & (best_DPK == best_DPK.max(axis=1, keepdims=True, initial=0))
    swapped_DPK = fits_DPK & matched_DP1 & (similarity_D2PK[:, 0] <= RIGHT)
    return owned_DPK.sum(axis=2), swapped_DPK.sum(axis=(1, 2))


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
    curve=Curve(
        "precision.csv",
        "recall",
        "Precision over recall",
        lambda run: (
            "Of the people found, best scores first, the share that is right; mean over OKS 0.50 to 0.95."
        ),
        y_top=1,
    ),
    joints=joints,
    suffix=MultiPerson.predictions_suffix,
    read_predictions=read_coco_results,
    ranking=ranking,
    kinds=KINDS,
    data_table=data_table,
)
