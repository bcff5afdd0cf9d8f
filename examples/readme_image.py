"""Draws docs/img/people.jpg, the README's image: people of the test set as the trained `hgpose` sees them.

Run after `make repro`:  .venv/bin/python examples/readme_image.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np

from pose.data.person_set import PERSON_HEIGHT, PersonSet
from pose.data.single_samples import crop
from pose.inference.draw import draw_people, sheet
from pose.io.paths import PREPARED, TaskPaths
from pose.keypoints.geometry import compose, crop_affine, invert, transform
from pose.keypoints.people import People
from pose.keypoints.skeleton import MPII

COLUMNS, ROWS, SIDE, SEED = 6, 2, 256, 3
SURE = 0.35  # mean confidence from which a person is shown; the report shows where the network fails


def main() -> None:
    """Twelve people, drawn at random from those of whom the network is fairly sure."""
    people = PersonSet(PREPARED["single"])
    with h5py.File(TaskPaths("hgpose").predictions(".h5"), "r") as file:
        joint_NK2, score_NK, row_N = file["joint"][()], file["score"][()], file["row"][()]
    sure = np.flatnonzero((score_NK.mean(axis=1) > SURE) & (people.source_N[row_N] == "mpii"))
    chosen = np.random.default_rng(SEED).choice(sure, COLUMNS * ROWS, replace=False)
    images = []
    for k in chosen:
        row = int(row_N[k])
        affine = crop_affine(people.centre_N2[row], 1.3 * PERSON_HEIGHT * people.scale_N[row], SIDE)
        image, packed_affine = people.image(row)
        shown = crop(image, compose(affine, invert(packed_affine)), SIDE)
        found = People(
            transform(affine, joint_NK2[k])[None], score_NK[k][None], score_NK[k].mean(keepdims=True)
        )
        images.append(draw_people(shown, found, MPII))
    path = Path("docs/img/people.jpg")
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), sheet(images, COLUMNS)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(path)


if __name__ == "__main__":
    main()
