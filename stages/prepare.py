"""Stage `prepare_NAME`: a data set of one's own, as `pose new-dataset` adds it -> data/prepared/NAME."""

from __future__ import annotations

from pose.data.prepare.dataset import prepare_dataset
from pose.io.command import run_stage
from pose.io.paths import prepared_folder
from pose.metrics.statistics import check_split
from pose.params import load_params


def main(name: str) -> None:
    """Pack the images or people of a data set, with its annotations by split."""
    params = load_params()
    spec, folder = params.dataset(name), prepared_folder(name)
    print(prepare_dataset(name, spec, folder, params=params.prepare, seed=params.seed, check=check_split))


if __name__ == "__main__":
    run_stage(main)
