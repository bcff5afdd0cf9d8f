"""Synthetic LSP and LSPET: one person fills an image. N people, J = 14 joints in LSP order."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.formats.lsp import LSP_TO_MPII
from pose.data.synthetic.files import draw_all, write_jpeg, write_mat
from pose.data.synthetic.person import Figure
from pose.data.synthetic.pose import SPORT
from pose.data.synthetic.scene import Placement, Scene, bystander, cover_for, draw_scene, fit

LSP_SET, LSPET_SET = 0, 1  # keep the sets' random streams apart (MPII: 2, COCO: 3)


def write_lsp(folder: Path, **drawing: Any) -> None:
    """`images/im0001.jpg`... and `joints.mat` with `joints` (3, 14, N): x, y, 1 = OCCLUDED."""
    joint_NJ3 = _draw_images("LSP", folder / "images" / "im%04d.jpg", LSP_SET, **drawing)
    write_mat(folder / "joints.mat", joints=joint_NJ3.transpose(2, 1, 0))


def write_lspet(folder: Path, **drawing: Any) -> None:
    """`images/im00001.jpg`... and `joints.mat` with `joints` (14, 3, N): x, y, 1 = annotated."""
    joint_NJ3 = _draw_images("LSPET", folder / "images" / "im%05d.jpg", LSPET_SET, **drawing)
    write_mat(folder / "joints.mat", joints=joint_NJ3.transpose(1, 2, 0))


def _draw_images(
    name: str, path: Path, set_number: int, *, people: int, size: int, seed: int, pool: Executor | None
) -> np.ndarray:
    """Draw and write images of `people`; joint_NJ3: x, y, and whether it is hidden (LSPET: annotated)."""
    path.parent.mkdir()
    draw = partial(_draw_image, path=str(path), set_number=set_number, size=size, seed=seed)
    return np.array(draw_all(name, draw, range(people), pool))


def _draw_image(index: int, *, path: str, set_number: int, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, set_number, index])
    scene = _draw_portrait(rng, size)
    write_jpeg(Path(path % (index + 1)), scene.image_HW3, rng)
    joints = scene.people[-1].mpii
    joint_J2, hidden_J = joints.xy_K2[LSP_TO_MPII], joints.hidden_K[LSP_TO_MPII]
    if set_number == LSP_SET:
        return np.column_stack([joint_J2, hidden_J])
    # Annotators leave out hidden joints sooner than visible ones; x and y of these mean nothing.
    annotated_J = rng.random(14) < np.where(hidden_J, 0.68, 0.95)
    joint_J2[~annotated_J] = rng.normal(0, 30, (int((~annotated_J).sum()), 2))
    return np.column_stack([joint_J2, annotated_J])


def _draw_portrait(rng: np.random.Generator, size: int) -> Scene:
    """An athlete who fills an image of `size` px, perhaps with somebody behind and a thing in front."""
    figure = Figure(rng, SPORT)
    stature, pelvis, size_wh = fit(figure, longer_side=float(size), margin=rng.uniform(0.07, 0.16))
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
