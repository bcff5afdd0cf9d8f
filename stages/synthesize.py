"""DVC stage: the embedded data, drawn from the seed -> data/synthetic. Usage: python -m stages.synthesize [folder]"""

from __future__ import annotations

import sys

from pose.data.synthetic import synthesize
from pose.errors import run_main
from pose.params import load_params


def main(folder: str = "data/synthetic") -> None:
    # Never into data.root: that may name real data.
    params = load_params()
    synthesize(params.synthetic, seed=params.seed, root=folder)


if __name__ == "__main__":
    run_main(main, *sys.argv[1:2])
