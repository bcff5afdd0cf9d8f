"""What the page shows of a single-person task.

PCKh and PCK beside published figures, joint by joint, best and worst people.

Legend: N predicted people, K joints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose.data.person_set import PersonSet
from pose.data.single_samples import crop, person_affine
from pose.inference.draw import ALONE, LEFT, MIDDLE, RIGHT, draw_people
from pose.io.errors import UserError
from pose.io.paths import PREPARED, TaskPaths
from pose.keypoints.geometry import compose, invert, transform
from pose.keypoints.people import People
from pose.keypoints.skeleton import MPII
from pose.metrics.pck import PCK, PCKH, normalised_distance, torso_length
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
)
from pose.report.content import Cell, Chart, Findings, Gallery, Key, Picture, Row, Table, Tile
from pose.report.files import Predictions, read_history, read_predictions, read_text_column
from pose.report.published import GROUPS, published_for

PICTURE = 320  # px a side
FEW_JOINTS = 8  # people with fewer labelled joints are neither best nor worst: too little is known of them
WHOLE_MPII = 20_000  # people; MPII's training set has 22,246
HEADLINE = {"PCKh.0.5": "PCKh@0.5", "PCK.0.2": "PCK@0.2", "PCKh.0.1": "PCKh@0.1", "PCKh.AUC": "AUC"}
TOP_DOWN = [
    *(
        "head_top",
        "upper_neck",
        "thorax",
        "r_shoulder",
        "l_shoulder",
        "r_elbow",
        "l_elbow",
        "r_wrist",
        "l_wrist",
    ),
    *("pelvis", "r_hip", "l_hip", "r_knee", "l_knee", "r_ankle", "l_ankle"),
]
LEGEND = (
    *(
        Key(f"predicted, {part}", (ALONE[side],))
        for part, side in {"the person's left": LEFT, "their right": RIGHT, "middle": MIDDLE}.items()
    ),
    Key("truth, with dots in the colour of the side"),
)
SET_NAMES = {"lsp": "LSP", "lspet": "LSPET", "mpii": "MPII"}


@dataclass(frozen=True)
class Tested:
    """Who was tested, and what was found: rows of the prepared file, and how far off each joint is.

    share_NK: distance over the largest that counts as right (half a head; a fifth of the torso where no head
    size is known), so at most 1 is right. NaN where there is nothing to compare. twin_NK: the same to the
    true place of the left or right counterpart.
    """

    people: PersonSet
    predictions: Predictions
    share_NK: np.ndarray
    twin_NK: np.ndarray


def findings(params: Params, task: str, figures: Mapping[str, float], root: Path) -> Findings:
    """All that can be made of the files that are there; what is not is named in `missing`."""
    found = Findings(legend=LEGEND)
    found.tiles = _tiles(figures)
    train, test = Counter[str](), Counter[str]()
    try:
        tested = _tested(root / PREPARED["single"], root / TaskPaths(task).predictions(".h5"))
    except UserError as error:
        found.missing.append(f"People and counts: {error}")
    else:
        train, test = (
            Counter(tested.people.source_N[rows].tolist())
            for rows in (tested.people.rows("train"), tested.predictions.row_N)
        )
        found.people = ", ".join(
            f"{test[source]:,} of {name}" for source, name in SET_NAMES.items() if test[source]
        )
        found.galleries = _galleries(tested, params)
    found.comparison = _comparison(task, figures, params.data.root)
    found.caution = caution(params.data.root, train, test)
    plots = root / TaskPaths(task).plots
    add_from(found, plots / "accuracy.csv", found.charts, lambda path: _curve(path, task))
    add_from(found, plots / "joints.csv", found.tables, _joints)
    return found


def data_table(root: Path) -> Table:
    """How many people of which set are in which split; UserError if the prepared file cannot be read."""
    people = PersonSet(root / PREPARED["single"])
    splits = ("train", "validation", "test", "unused")
    labelled_N = people.labelled_NK.any(axis=1)
    rows = []
    for source, name in SET_NAMES.items():
        counts = [
            int(((people.source_N == source) & (people.split_N == split) & labelled_N).sum())
            for split in splits
        ]
        if sum(counts):
            rows.append(
                Row((Cell(name), *(Cell(f"{count:,}", number=True) for count in (*counts, sum(counts)))))
            )
    notes = ("Without people of whom no joint is labelled, such as MPII's test people.",)
    return Table(
        "People by set and split",
        ("Set", *(split.capitalize() for split in splits), "All"),
        tuple(rows),
        notes=notes,
    )


def _tiles(figures: Mapping[str, float]) -> list[Tile]:
    heads, torsos = (
        f"{int(figures.get(f'people.{key}', 0)):,} people" for key in ("with head size", "LSP with torso")
    )
    notes = {
        "PCKh@0.5": f"within half a head size; {heads}",
        "PCKh@0.1": f"within a tenth of a head size; {heads}",
        "AUC": f"area under the accuracy from 0 to 0.5; {heads}",
        "PCK@0.2": f"within a fifth of the torso; {torsos} of LSP type",
    }
    return [
        Tile(title, f"{figures[key]:.1f}", notes[title]) for key, title in HEADLINE.items() if key in figures
    ]


def _tested(prepared: Path, predicted: Path) -> Tested:
    predictions = read_predictions(predicted, joints=len(MPII))
    people = PersonSet(prepared)
    row_N = predictions.row_N
    if len(row_N) and not 0 <= row_N.min() <= row_N.max() < len(people):
        raise UserError(
            f"{predicted}: rows up to {row_N.max()}, but {prepared} has {len(people)} people: made from another one"
        )
    true, labelled, head_N = people.joint_NK2[row_N], people.labelled_NK[row_N], people.head_size_N[row_N]
    known_N = np.isfinite(head_N) & (head_N > 0)
    limit_N = np.where(known_N, PCKH * head_N, PCK * torso_length(true, labelled, MPII))
    flip = MPII.flip_index
    share_NK = normalised_distance(predictions.joint_NK2, true, labelled, limit_N)
    twin_NK = normalised_distance(predictions.joint_NK2, true[:, flip], labelled[:, flip], limit_N)
    share_NK[:, np.setdiff1d(np.arange(len(MPII)), MPII.scored_joints)] = np.nan
    return Tested(people, predictions, share_NK, twin_NK)


def _comparison(task: str, figures: Mapping[str, float], root: str) -> Table:
    rows = []
    for metric, table, mean, people in (
        ("PCKh@0.5", "PCKh", "0.5", "with head size"),
        ("PCK@0.2", "PCK", "0.2", "LSP with torso"),
    ):
        if f"{table}.{mean}" in figures:
            count = figures.get(f"people.{people}")
            on = root if count is None else f"{root}, {count:,.0f} people"
            cells = figure_cells(
                figures, [f"{table}.{key}" for key in (mean, f"{mean} weighted", *GROUPS)], 1
            )
            rows.append(Row((Cell(f"{task}, this run"), Cell(on), Cell(metric), *cells), marked=True))
    rows += [
        Row(published_cells(row, ("Mean", "Weighted", *GROUPS), 1, Cell("PCKh@0.5")))
        for row in published_for("single")
    ]
    notes = (
        "Mean: over 14 joints (without pelvis and thorax), each counting the same. Weighted: joints count as often as they are labelled, "
        "a custom of other projects, which is kinder by about 0.9 points on MPII.",
        "Head is the top of the head. PCKh measures in head sizes (0.6 times the diagonal of MPII's head box), PCK in torsos "
        "(left shoulder to right hip).",
    )
    columns = ("What, and who says so", "Tested on", "Metric", "Mean", "Weighted", *GROUPS)
    return Table("Beside the published figures", columns, tuple(rows), 3, notes)


def caution(root: str, train: Mapping[str, int], test: Mapping[str, int]) -> tuple[str, ...]:
    """Why our figures and the published ones must not be read as a ranking.

    Train, test: people by set (lsp, lspet, mpii).
    """
    published = "The published networks learned from MPII's 22,246 photographed training people or more, and were tested on its photos."
    if not test:
        return (f"Not comparable as they stand: whom this run was tested on is not known here. {published}",)
    trained, tested = sum(train.values()), sum(test.values())
    if is_drawn(root) or train.get("mpii", 0) < WHOLE_MPII:
        lines = [not_comparable(root, trained, tested, "people", published)]
    else:
        lines = [
            f"Trained on {trained:,} people of {root}, tested on {tested:,}. The rows of MPII validation are comparable "
            "if these are its published validation people; MPII's test people are others, whose joints are not public."
        ]
    if test.get("lspet"):
        lines.append(
            "LSPET people are cropped around their labelled joints (there is no other record of where they are), "
            "in the test as in training: their figures are helped by that."
        )
    return tuple(lines)


def _curve(path: Path, task: str) -> Chart:
    table = read_history(path, "threshold")
    unit = read_text_column(path, "unit") or "reference length"
    names = [name for name in (*GROUPS, "Mean") if name in table]
    lines = []
    for name in names:
        colour = INK if name == "Mean" else SERIES[GROUPS.index(name)]
        lines.append(
            Line(name, table["threshold"].to_numpy(), table[name].to_numpy(), colour, bold=name == "Mean")
        )
    x_label = f"threshold, {unit}s"
    svg = line_chart(
        lines,
        name=f"{task}-accuracy",
        title=f"Accuracy of {task} over thresholds",
        x_label=x_label,
        y_limits=(0, 100),
    )
    return Chart(
        "Accuracy over the threshold", svg, f"Percent of joints within so many {unit}s of the truth."
    )


def _joints(path: Path) -> Table:
    return joint_table(
        path,
        order=TOP_DOWN,
        counted=[MPII.joints[joint] for joint in MPII.scored_joints],
        notes={
            "joint": "Pelvis and thorax are counted in no mean.",
            "sides ignored": "Sides ignored: PCKh@0.5 if a joint may also lie where its left or right counterpart is.",
        },
    )


def _galleries(tested: Tested, params: Params) -> list[Gallery]:
    count_N = (~np.isnan(tested.share_NK)).sum(axis=1)
    enough = np.flatnonzero(count_N >= FEW_JOINTS)
    # Beyond three times the limit lost is lost: one joint at the other end of the picture is not worse than
    # three wrong ones.
    error_N = np.nansum(np.minimum(tested.share_NK[enough], 3), axis=1) / count_N[enough]
    order = enough[np.argsort(error_N, kind="stable")]
    which = (
        f"the {len(order):,} people tested who have at least {FEW_JOINTS} labelled joints, by how far these are off on average; "
        "each as the network was shown them."
    )
    return best_and_worst(
        order.tolist(),
        params.report.people,
        lambda number: _picture(tested, number, params),
        things="people",
        which=which,
    )


def _picture(tested: Tested, number: int, params: Params) -> Picture:
    people, row = tested.people, int(tested.predictions.row_N[number])
    single = params.single.model_copy(
        update={"input_size": PICTURE}
    )  # what the network is shown, only larger
    affine = person_affine(
        people.centre_N2[row], people.scale_N[row], params=single, feet=people.source_N[row] == "mpii"
    )
    picture, packed = people.image(row)
    image = crop(picture, compose(affine, invert(packed)), PICTURE)
    score_K = tested.predictions.score_NK[number].astype(np.float64)
    found = People(
        transform(affine, tested.predictions.joint_NK2[number].astype(np.float64))[None],
        score_K[None],
        score_K.mean(keepdims=True),
    )
    truth = People(transform(affine, people.joint_NK2[row])[None], np.ones((1, len(MPII))), np.ones(1))
    image = draw_people(image, found, MPII, truth=truth)
    share_K = tested.share_NK[number]
    compared, right = int((~np.isnan(share_K)).sum()), int((share_K <= 1).sum())
    exchanged = int(((share_K > 1) & (tested.twin_NK[number] <= 1)).sum())
    caption = f"{right} of {compared} joints right" + (
        f", {exchanged} on the wrong side" if exchanged else ""
    )
    return drawn_picture(image, name=people.name(row), caption=caption)
