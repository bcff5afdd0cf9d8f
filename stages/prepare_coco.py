"""Stage `prepare_coco`: COCO as published -> data/prepared/coco."""

from __future__ import annotations

from pose.data.prepare.coco import prepare_coco
from pose.io.command import run_stage
from pose.io.paths import PREPARED
from pose.metrics.truth import check_truth
from pose.params import load_params


def main() -> None:
    """Pack a subset of COCO's images into one file, with its annotations by split."""
    params = load_params()
    root, folder = params.data.root, PREPARED["coco"]
    print(prepare_coco(root, folder, params=params.prepare.coco, seed=params.seed, check=check_truth))


if __name__ == "__main__":
    run_stage(main)
