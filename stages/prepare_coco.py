"""DVC stage: COCO as it comes -> data/prepared/coco, a subset of its pictures in one file and its annotations by split."""

from __future__ import annotations

from pose.data.prepare_coco import prepare_coco
from pose.errors import run_main
from pose.params import load_params


def main() -> None:
    params = load_params()
    print(prepare_coco(params.data.root, "data/prepared/coco", params=params.prepare.coco, seed=params.seed))


if __name__ == "__main__":
    run_main(main)
