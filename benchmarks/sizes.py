"""AP of multi-person weights where people are larger or smaller than in training.

    python benchmarks/sizes.py [WEIGHTS ...]      in a workspace with prepared images, by default of hgpose-ae

Each size alone, and then with a further scale, as `evaluate.scales` has it. Larger: the input is larger than
in training. Smaller: the image fills only so much of the input, which is black around it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch
from common import write
from tqdm import tqdm

from pose.data import multi_samples
from pose.data.augment import MultiAugment
from pose.inference.batches import predict_dataset, select_device
from pose.models.weights import load_weights
from pose.params import load_params
from pose.tasks.multi import TABLE
from pose.tasks.task import Model, load_model, open_data

# Sizes of people over those of the training, and a further scale of the input, which is a multiple of 64 px.
SCALES = {0.5: 2.0, 0.75: 1.5, 1: 1.5, 1.5: 1 / 1.5, 2: 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="*", type=Path, default=[Path("models/hgpose-ae/last.pt")])
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    found = []
    for path in parser.parse_args().weights:
        weights = load_weights(path)
        model = load_model(weights, str(path), select_device(), load_params().problem(weights.task))
        for size, scale in tqdm(SCALES.items(), str(path), unit="size"):
            alone, both = (average_precision(model, size, scales) for scales in ([], [scale]))
            row = {"weights": str(path), "training_px": model.problem.params.input_size, "size": size}
            found.append({**row, "AP": alone, "further_scale": scale, "AP with it": both})
    write("sizes", {"rows": found}, report(found))


def report(found: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        "# People of other sizes than in training",
        "",
        "AP of the evaluation images when people are shown so many times larger, and with a further scale.",
        "",
        "| weights | inputs of the training | size | AP | further scale | AP with it too |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row['weights']}` | {row['training_px']} px | {row['size']:g} | {row['AP']:.3f}"
        f" | {row['further_scale']:.2g} | {row['AP with it']:.3f} |"
        for row in found
    ]
    return "\n".join(lines) + "\n"


def average_precision(model: Model, size: float, scales: list[float]) -> float:
    """AP on the evaluation images, at a size and at further scales of it."""
    side = round(max(size, 1) * model.problem.params.input_size)
    # What evaluation shows of an image: more than all of it, for people who are smaller.
    multi_samples.UNCHANGED = MultiAugment(widen=1 / min(size, 1))  # type: ignore[attr-defined]
    inference = model.problem.params.model_copy(update={"input_size": side})
    model = replace(model, problem=replace(model.problem, params=inference))
    params = load_params()
    data = open_data(inference, params.prepared(model.name))
    rows = data.rows("evaluation")
    settings = {"batch": params.evaluate.batch, "workers": params.train.workers, "progress": False}
    people = predict_dataset(model, data, rows, flip=True, scales=[1.0, *scales], **settings)
    return data.score(people, rows)[TABLE]["AP"]


if __name__ == "__main__":
    main()
