"""What the report shows of a single-person task: PCKh and PCK, and people by what is wrong with them.

Legend: N predicted people, K joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose.data.augment import crop, person_affine
from pose.inference.draw import ALONE, draw_people
from pose.io.errors import UserError
from pose.keypoints.geometry import compose, invert, transform
from pose.keypoints.people import People
from pose.keypoints.skeleton import LEFT, MIDDLE, RIGHT, Skeleton
from pose.metrics.error_kinds import JITTER, error_kinds
from pose.metrics.pck import PCK, PCKH, normalised_distance, person_truth
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
from pose.report.files import SinglePredictions, read_single_predictions
from pose.report.published import GROUPS
from pose.report.run import Run
from pose.tasks.single import SingleData, SinglePerson

IMAGE_SIZE = 240  # px a side
MIN_JOINTS = 8  # people with fewer labelled joints are not ranked: too little is known of them
MPII_TRAIN = 20_000  # people; the published training set has 22,246
OWN_ROWS = (
    OwnRow("PCKh@0.5", "PCKh", "people.with head size", {"Mean": "0.5", "Weighted": "0.5 weighted"}),
    OwnRow("PCK@0.2", "PCK", "people.with reference length", {"Mean": "0.2", "Weighted": "0.2 weighted"}),
)
NOTES = (
    "Published rows are PCKh@0.5. PCKh counts in head sizes (0.6 times the diagonal of MPII's head box), "
    "LSP's PCK in torsos (left shoulder to right hip). Head is the top of the head.",
    "Mean: over 14 joints (without pelvis and thorax), each with the same weight. Weighted: joints count as "
    "often as they are labelled, as in some other projects; on MPII that is about 0.9 points higher.",
)
LEGEND = (
    LegendEntry("predicted, the person's left", (ALONE[LEFT],)),
    LegendEntry("their right", (ALONE[RIGHT],)),
    LegendEntry("middle", (ALONE[MIDDLE],)),
    LegendEntry("truth, with dots in the colour of the side"),
)
KINDS = {  # of error, by their names in `pose.metrics.error_kinds`
    "jitter": ("jitter", "joints within twice the distance that is right"),
    "inversion": ("left/right swapped", "joints where the person's left or right counterpart is"),
    "miss": ("missed", "joints elsewhere"),
}
SETS = {"lsp": "LSP", "lspet": "LSPET", "mpii": "MPII"}


def comparison(runs: Sequence[Run], data: SingleData | None) -> Block:
    """Our metrics beside the published ones, and whether they can be compared."""
    run = runs[0]
    if not run.is_published:
        groups = () if data is None else tuple(data.skeleton.groups)
        table = comparison_table(runs, OWN_ROWS, ("Mean", "Weighted", *groups), 1, ())
        return Block("Metrics by group of joints", table=table, folded=True)
    train_N, test_N = (
        np.array([]) if data is None else data.people.source_N[data.rows(subset)]
        for subset in ("train", "evaluation")
    )
    words = [
        caution(
            run.data,
            data,
            as_published=bool((train_N == "mpii").sum() >= MPII_TRAIN),
            published="The published networks were trained on MPII's 22,246 photographed people or more, "
            "and evaluated on its photographs.",
            comparable="The rows of MPII validation are comparable if these are the published ones; "
            "the joints of MPII's test people are not public.",
        )
    ]
    if "lspet" in test_N:
        words.append(
            "LSPET people are cropped around their labelled joints, in evaluation as in training: "
            "there is no other record of where they are, and it helps their metrics."
        )
    table = comparison_table(runs, OWN_ROWS, ("Mean", "Weighted", *GROUPS), 1, NOTES)
    return Block("Published metrics", caution=tuple(words), table=table, folded=True)


def _curve_note(run: Run) -> str:
    unit = "head sizes" if "PCKh.0.5" in run.metrics else "reference lengths"
    return f"Percent of joints within so many {unit} of the truth."


def joints(path: Path, skeleton: Skeleton | None) -> Table:
    """Accuracy joint by joint."""
    notes = {
        "joint": "Faint joints are in no mean.",
        "sides ignored": "Sides ignored: PCKh@0.5 if a joint may also be at its left or right counterpart.",
    }
    return joint_table(path, skeleton, notes)


def ranking(run: Run, data: SingleData, predictions: SinglePredictions) -> Ranking:
    """People by how far off their joints are, as the network was shown them."""
    people, skeleton, row_N = data.people, data.skeleton, predictions.row_N
    if len(row_N) and row_N.max() >= len(people):
        path = run.paths.predictions(REPORT.suffix)
        expected = f"rows of {data.path}, which has {len(people)} people"
        raise UserError(f"{path}: found rows up to {row_N.max()}, expected {expected}")
    true_NK2, labelled_NK = people.joint_NK2[row_N], people.labelled_NK[row_N]
    head_N = people.head_size_N[row_N]
    has_head_N = np.isfinite(head_N) & (head_N > 0)
    limit_N = np.where(has_head_N, PCKH * head_N, PCK * person_truth(people, row_N).length_N)
    flip = skeleton.flip_index
    # Distances over the largest that is right: at most 1 is right. twin: from the left or right counterpart.
    error_NK = normalised_distance(predictions.joint_NK2, true_NK2, labelled_NK, limit_N)
    twin_NK = normalised_distance(predictions.joint_NK2, true_NK2[:, flip], labelled_NK[:, flip], limit_N)
    error_NK[:, np.setdiff1d(np.arange(len(skeleton)), skeleton.scored_joints)] = np.nan
    count_N = (~np.isnan(error_NK)).sum(axis=1)
    least = min(MIN_JOINTS, (len(skeleton.scored_joints) + 1) // 2)
    enough = np.flatnonzero(count_N >= least)
    # Beyond 3 a joint is lost, however far: one far off is not worse than three wrong ones.
    mean_error = np.nansum(np.minimum(error_NK[enough], 3), axis=1) / count_N[enough]
    ranked = enough[np.argsort(mean_error, kind="stable")].tolist()

    kinds = error_kinds(error_NK > 1, error_NK <= JITTER, twin_NK <= 1)
    errors = {name: kinds[kind].sum(axis=1).tolist() for kind, (name, _) in KINDS.items()}

    def draw(number: int) -> PageImage:
        wrong_K = error_NK[number] > 1
        swapped = int((wrong_K & (twin_NK[number] <= 1)).sum())
        caption = f"{int((error_NK[number] <= 1).sum())} of {count_N[number]} joints right"
        caption += f", {swapped} swapped" if swapped else ""
        person = predictions.joint_NK2[number], predictions.score_NK[number]
        return _draw(data, int(row_N[number]), *person, caption)

    return Ranking(
        unit="people",
        ranked=ranked,
        all=np.flatnonzero(count_N).tolist(),
        count=int((count_N > 0).sum()),
        order=f"{len(ranked):,} evaluated people with {least} labelled joints or more, by their mean error.",
        errors=lambda number: {name: counts[number] for name, counts in errors.items()},
        draw=draw,
        legend=LEGEND,
    )


def data_table(data: SingleData) -> Table:
    """How many people of which set are in which split."""
    people, splits = data.people, ("train", "validation", "test", "unused")
    labelled_N = people.labelled_NK.any(axis=1)
    rows = []
    for source in dict.fromkeys([*SETS, *people.source_N.tolist()]):
        of_set_N = labelled_N & (people.source_N == source)
        counts = [int((of_set_N & (people.split_N == split)).sum()) for split in splits]
        if any(counts):
            numbers = [f"{count:,}" for count in (*counts, sum(counts))]
            rows.append(number_row(SETS.get(source, source), numbers))
    columns = ("People with labelled joints", *(split.capitalize() for split in splits), "All")
    return Table(columns, rows)


def _draw(data: SingleData, row: int, joint_K2: np.ndarray, score_K: np.ndarray, caption: str) -> PageImage:
    people = data.people
    larger = data.params.model_copy(update={"input_size": IMAGE_SIZE})  # the crop, in more pixels
    affine = person_affine(people.centre_N2[row], people.scale_N[row], params=larger)
    packed_HW3, to_packed = people.image(row)
    image_HW3 = crop(packed_HW3, compose(affine, invert(to_packed)), IMAGE_SIZE)
    found = People(transform(affine, joint_K2)[None], score_K[None], score_K.mean(keepdims=True))
    true_K2 = transform(affine, people.joint_NK2[row])
    truth = People(true_K2[None], np.ones((1, len(true_K2))), np.ones(1))
    image_HW3 = draw_people(image_HW3, found, data.skeleton, truth=truth)
    return page_image(image_HW3, name=people.name(row), caption=caption)


REPORT = ProblemReport(
    sample="one person per crop",
    comparison=comparison,
    curve=Curve("accuracy.csv", "threshold", "Accuracy over the threshold", _curve_note, y_top=100),
    joints=joints,
    suffix=SinglePerson.predictions_suffix,
    read_predictions=read_single_predictions,
    ranking=ranking,
    kinds=dict(KINDS.values()),
    data_table=data_table,
)
