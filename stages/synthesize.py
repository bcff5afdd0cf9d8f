"""Stage `synthesize`: the embedded data, drawn from the seed -> data/synthetic."""

from __future__ import annotations

from pose.data.synthetic import synthesize
from pose.io.command import run_stage
from pose.params import load_params


def main(folder: str = "data/synthetic") -> None:
    """Draw the embedded data. Not into data.root by default: that may hold real data."""
    params = load_params()
    synthesize(params.synthetic, seed=params.seed, root=folder)


if __name__ == "__main__":
    run_stage(main)
