"""The embedded data: drawn people, written as the real sets come, so that the real readers are what gets exercised.

Every picture comes from `numpy.random.default_rng([seed, set, index])`: it is the same for any number of
processes. A set is written into a folder beside its own and renamed when whole, so an interrupted run leaves
no half set.
"""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np

from pose.data.synthetic.coco import write_coco
from pose.data.synthetic.files import draw_all, drawing_pool, write_jpeg, write_mat
from pose.data.synthetic.mpii import write_mpii
from pose.data.synthetic.person import draw_figure
from pose.data.synthetic.pose import SPORT
from pose.data.synthetic.scene import Placement, Scene, bystander, cover_for, draw_scene, fit
from pose.io.errors import UserError
from pose.io.files import atomic_folder
from pose.keypoints.skeleton import LSP_TO_MPII
from pose.params import SyntheticParams

LSP_SET, LSPET_SET = 0, 1  # keep the sets' random streams apart (MPII: 2, COCO: 3)


def synthesize(params: SyntheticParams, *, seed: int, root: str | Path, workers: int | None = None) -> None:
    """Write `LSP`, `LSPET`, `mpii` and `coco` under the folder `root`, in the layouts in which the real sets are published.

    workers: processes that draw; None means one per core. A set of no people is not written.
    """
    if params.lsp.train != params.lsp.test:
        raise UserError(
            f"synthetic.lsp: found train {params.lsp.train} and test {params.lsp.test}, expected equal numbers"
            " (LSP says which people are test people by their place alone: the second half)"
        )
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with drawing_pool(workers) as pool:
        if params.lsp.train:
            with atomic_folder(root / "LSP") as folder:
                write_lsp(
                    folder, people=params.lsp.train + params.lsp.test, size=params.size, seed=seed, pool=pool
                )
        if params.lspet:
            with atomic_folder(root / "LSPET") as folder:
                write_lspet(folder, people=params.lspet, size=params.size, seed=seed, pool=pool)
        if params.mpii.train + params.mpii.validation:
            with atomic_folder(root / "mpii") as folder:
                write_mpii(
                    folder, train=params.mpii.train, validation=params.mpii.validation, seed=seed, pool=pool
                )
        if params.coco.train + params.coco.validation:
            with atomic_folder(root / "coco") as folder:
                write_coco(
                    folder, train=params.coco.train, validation=params.coco.validation, seed=seed, pool=pool
                )


def synthesize_coco(
    *, train: int, validation: int, seed: int, root: str | Path, workers: int | None = None
) -> None:
    """Write `coco` under the folder `root`.

    As many pictures with annotations as asked for. workers: as in `synthesize`.
    """
    with drawing_pool(workers) as pool, atomic_folder(Path(root) / "coco") as folder:
        write_coco(folder, train=train, validation=validation, seed=seed, pool=pool)


# --- LSP and LSPET: one person fills a picture
# ------------------------------------------------------------------------


def write_lsp(folder: Path, *, people: int, size: int, seed: int, pool: Executor | None) -> None:
    """`joints.mat` with `joints` (3, 14, N).

    X, y, 1 = OCCLUDED; `images/im0001.jpg`... The first half is for training.
    """
    draw = partial(
        _draw_lsp_picture, folder=str(folder / "images"), digits=4, set_number=LSP_SET, size=size, seed=seed
    )
    (folder / "images").mkdir()
    drawn = draw_all("LSP", draw, range(people), pool)
    joint_3KN = np.stack(
        [np.vstack([joint_K2.T, hidden_K[None]]) for joint_K2, hidden_K, _ in drawn], axis=-1
    )
    write_mat(folder / "joints.mat", joints=joint_3KN.astype(np.float64))


def write_lspet(folder: Path, *, people: int, size: int, seed: int, pool: Executor | None) -> None:
    """`joints.mat` with `joints` (14, 3, N).

    X, y, 1 = annotated, meaningless x, y elsewhere; `images/im00001.jpg`...
    """
    draw = partial(
        _draw_lsp_picture, folder=str(folder / "images"), digits=5, set_number=LSPET_SET, size=size, seed=seed
    )
    (folder / "images").mkdir()
    drawn = draw_all("LSPET", draw, range(people), pool)
    joint_K3N = np.empty((14, 3, people))
    for n, (joint_K2, _, labelled_K) in enumerate(drawn):
        joint_K3N[:, :2, n], joint_K3N[:, 2, n] = joint_K2, labelled_K
    write_mat(folder / "joints.mat", joints=joint_K3N)


def _draw_lsp_picture(
    index: int, *, folder: str, digits: int, set_number: int, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw and write one picture; its joints (14, 2) in px, which are hidden, and which would be annotated in LSPET."""
    rng = np.random.default_rng([seed, set_number, index])
    scene = _draw_portrait(rng, size)
    write_jpeg(f"{folder}/im{index + 1:0{digits}d}.jpg", scene.image_HW3, rng)
    person = scene.people[-1]
    joint_K2, hidden_K = person.mpii_16x2[LSP_TO_MPII].copy(), person.mpii_hidden_16[LSP_TO_MPII]
    # Annotators leave out hidden joints sooner than visible ones.
    labelled_K = rng.random(14) < np.where(hidden_K, 0.68, 0.95)
    if set_number == LSPET_SET:
        joint_K2[~labelled_K] = rng.normal(0, 30, (int((~labelled_K).sum()), 2))
    return joint_K2, hidden_K, labelled_K


def _draw_portrait(rng: np.random.Generator, size: int) -> Scene:
    """One sportive person who fills a picture of `size` px on its longer side, perhaps with somebody behind and a thing in front."""
    figure = draw_figure(rng, SPORT)
    stature, pelvis, picture = fit(figure, longer_side=float(size), margin=float(rng.uniform(0.07, 0.16)))
    if stature > 1.15 * size:  # curled up: such a person would be drawn too large
        shrink = 1.15 * size / stature
        stature, pelvis, picture = stature * shrink, pelvis * shrink, picture * shrink
    grow = rng.uniform(0, 0.25, 2) * (size - picture).clip(0)  # room to the left, to the right
    pelvis = pelvis + grow / 2
    width, height = (round(max(float(side), 0.4 * size)) for side in np.minimum(picture + grow, size))
    placements = [Placement(figure, pelvis, stature)]
    if rng.random() < 0.2:
        placements.insert(0, bystander(rng, pelvis, stature))
    covers = [cover_for(rng, placements[-1])] if rng.random() < 0.25 else []
    return draw_scene(rng, width=width, height=height, placements=placements, covers=covers)
