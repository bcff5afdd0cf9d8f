"""Samples per second and core of people cut out of large images, as those of MPII are, at 256 px.

    python benchmarks/cut_out_people.py --root FOLDER [--people 400] [--rounds 5]

MPII's images have 1280 x 720 px and more. The people are those of LSPET in FOLDER, their images enlarged to
1280 px on the longer side. Packed is what surrounds a person, shrunk to 448 px; of a third of these people
that is the whole image, since they are taller than MPII's. Enlarged images are smoother than photographs, so
that they decode a little faster.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import write
from data_path import ROOT, rates, report, seconds_of_a_sample
from scipy.io import loadmat, savemat

from pose.data.augment import person_affine
from pose.data.formats.lsp import ANNOTATIONS
from pose.data.person_set import PersonSet
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.single_samples import PersonDataset
from pose.params import load_params

LONGER = 1280  # px, side of an image
INPUT, PACK = 256, 448  # px, as of preset `paper`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder with LSPET as published")
    parser.add_argument("--people", type=int, default=400, help="so many take part, less those held out")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        enlarge(options.root / "LSPET", Path(scratch) / "LSPET", options.people)
        result = measure(Path(scratch), options.rounds)
    sets = {"People cut out of large images": result}
    write("cut_out_people", {"sets": sets}, report(sets))


def enlarge(source: Path, target: Path, count: int) -> None:
    """The first people of LSPET and their images, so many times as large."""
    joint_J3N = loadmat(source / ANNOTATIONS)["joints"][..., :count].astype(np.float64)
    (target / "images").mkdir(parents=True)
    for number in range(count):
        name = f"im{number + 1:05d}.jpg"
        image = cv2.imread(str(source / "images" / name))
        assert image is not None, name
        factor = LONGER / max(image.shape)
        joint_J3N[:, :2, number] *= factor
        larger = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(target / "images" / name), larger)
    savemat(target / ANNOTATIONS, {"joints": joint_J3N})


def measure(root: Path, rounds: int) -> dict[str, Any]:
    """Samples beside reading the same people's images, in turns."""
    params = load_params(ROOT / "params.yaml")
    single = params.single.model_copy(update={"input_size": INPUT})
    packing = params.prepare.model_copy(update={"pack_size": PACK})
    prepare_lsp_mpii(root, root / "lsp_mpii.h5", params=packing, seed=params.seed)
    people = PersonSet(root / "lsp_mpii.h5")
    rows, batch = people.rows("train"), params.task("hgpose").batch
    files = [str(root / people.name(row)) for row in rows.tolist()]
    dataset = PersonDataset(people, rows, single, seed=params.seed)
    affines = [person_affine(people.centre_N2[row], people.scale_N[row], params=single) for row in rows]
    each = seconds_of_a_sample(files, affines, dataset, INPUT, batch, rounds)
    return {
        "sources": ["lspet"],
        "image_px": people.image_size_N2[rows].mean(axis=0).round().astype(int).tolist(),
        "input_px": INPUT,
        "batch": batch,
        **rates(each, len(rows), rounds),
    }


if __name__ == "__main__":
    main()
