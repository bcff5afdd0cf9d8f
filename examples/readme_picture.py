"""Draws docs/people.png, the README's picture: people of the test set as the trained `hgpose` sees them.

Run after `make repro`:  .venv/bin/python examples/readme_picture.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np

from pose.data.lsp_mpii import LspMpii
from pose.draw import draw_people, sheet
from pose.folders import PREPARED, Folders
from pose.geometry import transform
from pose.people import People
from pose.skeleton import MPII

COLUMNS, ROWS, SEED = 6, 2, 3
SURE = 0.35  # mean confidence from which a person is shown: the picture is to show what it does, the report shows where it fails


def main() -> None:
    """Twelve people, drawn at random from those of whom the network is fairly sure."""
    people = LspMpii(PREPARED)
    with h5py.File(Folders("hgpose").predictions, "r") as file:
        joint_NK2, score_NK, row_N = file["joint"][()], file["score"][()], file["row"][()]
    sure = np.flatnonzero((score_NK.mean(axis=1) > SURE) & (people.source_N[row_N] != "mpii"))
    chosen = np.random.default_rng(SEED).choice(sure, COLUMNS * ROWS, replace=False)
    pictures = []
    for k in chosen:
        image, affine = people.picture(int(row_N[k]))
        found = People(transform(affine, joint_NK2[k])[None], score_NK[k][None], score_NK[k].mean(keepdims=True))
        zoom = 220 / image.shape[0]
        pictures.append(cv2.resize(draw_people(image, found, MPII, zoom=3), None, fx=zoom / 3, fy=zoom / 3, interpolation=cv2.INTER_AREA))
    path = Path("docs/people.png")
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), sheet(pictures, COLUMNS, [""] * len(pictures))[..., ::-1])
    print(path)


if __name__ == "__main__":
    main()
