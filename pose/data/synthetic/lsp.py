"""Synthetic LSP and LSPET: one person fills an image. N people, J = 14 joints in LSP order."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np

from pose.data.synthetic.files import draw_all, write_jpeg, write_mat
from pose.data.synthetic.person import draw_figure
from pose.data.synthetic.pose import SPORT
from pose.data.synthetic.scene import Placement, Scene, bystander, cover_for, draw_scene, fit
from pose.keypoints.skeleton import LSP_TO_MPII

LSP_SET, LSPET_SET = 0, 1  # keep the sets' random streams apart (MPII: 2, COCO: 3)


def write_lsp(folder: Path, *, people: int, size: int, seed: int, pool: Executor | None) -> None:
    """`images/im0001.jpg`... and `joints.mat` with `joints` (3, 14, N): x, y, 1 = OCCLUDED."""
    (folder / "images").mkdir()
    draw = partial(_draw_image, path=f"{folder}/images/im%04d.jpg", set_number=LSP_SET, size=size, seed=seed)
    joints, hidden, _ = zip(*draw_all("LSP", draw, range(people), pool), strict=True)
    write_mat(folder / "joints.mat", joints=np.dstack([joints, hidden]).transpose(2, 1, 0))


def write_lspet(folder: Path, *, people: int, size: int, seed: int, pool: Executor | None) -> None:
    """`images/im00001.jpg`... and `joints.mat` with `joints` (14, 3, N): x, y, 1 = annotated."""
    (folder / "images").mkdir()
    draw = partial(
        _draw_image, path=f"{folder}/images/im%05d.jpg", set_number=LSPET_SET, size=size, seed=seed
    )
    joints, _, labelled = zip(*draw_all("LSPET", draw, range(people), pool), strict=True)
    write_mat(folder / "joints.mat", joints=np.dstack([joints, labelled]).transpose(1, 2, 0))


def _draw_image(
    index: int, *, path: str, set_number: int, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw and write an image: joint_J2, px; which of them are hidden; which would be annotated in LSPET."""
    rng = np.random.default_rng([seed, set_number, index])
    scene = _draw_portrait(rng, size)
    write_jpeg(Path(path % (index + 1)), scene.image_HW3, rng)
    joints = scene.people[-1].mpii
    joint_J2, hidden_J = joints.xy_K2[LSP_TO_MPII], joints.hidden_K[LSP_TO_MPII]
    # Annotators leave out hidden joints sooner than visible ones.
    labelled_J = rng.random(14) < np.where(hidden_J, 0.68, 0.95)
    if set_number == LSPET_SET:  # where x and y mean nothing without annotation
        joint_J2[~labelled_J] = rng.normal(0, 30, (int((~labelled_J).sum()), 2))
    return joint_J2, hidden_J, labelled_J


def _draw_portrait(rng: np.random.Generator, size: int) -> Scene:
    """An athlete who fills an image of `size` px, perhaps with somebody behind and a thing in front."""
    figure = draw_figure(rng, SPORT)
    stature, pelvis, size_wh = fit(figure, longer_side=float(size), margin=float(rng.uniform(0.07, 0.16)))
    if stature > 1.15 * size:  # curled up: such a person would be drawn too large
        shrink = 1.15 * size / stature
        stature, pelvis, size_wh = stature * shrink, pelvis * shrink, size_wh * shrink
    room = rng.uniform(0, 0.25, 2) * (size - size_wh).clip(0)
    pelvis = pelvis + room / 2
    width, height = (round(max(float(side), 0.4 * size)) for side in np.minimum(size_wh + room, size))
    placements = [Placement(figure, pelvis, stature)]
    if rng.random() < 0.2:
        placements.insert(0, bystander(rng, pelvis, stature))
    covers = [cover_for(rng, placements[-1])] if rng.random() < 0.25 else []
    return draw_scene(rng, width=width, height=height, placements=placements, covers=covers)
