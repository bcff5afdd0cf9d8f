"""The training data path beside reading the same JPEG files, and beside reading and one warp.

Samples per second and core.

    python benchmarks/data_path.py [--root FOLDER] [--input PX] [--people 500] [--rounds 15] [--name NAME]

On synthetic people (data/synthetic, or a few hundred made for the purpose) and, beside them, on those of
FOLDER, which holds LSP, LSPET or mpii as published; if it holds coco, on complete images too, at the size and
with the augmentation of preset `paper`. Of people, only those take part whose packed image is their image's
file, byte for byte, so that all decode the same bytes; COCO's images are packed as they are.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import h5py
import numpy as np
import torch
from common import in_turns, shown, spread, write
from noise import preset

from pose.data.augment import Augment, image_affine, person_affine, warp
from pose.data.image_set import ImageSet
from pose.data.loader import Loader, sequential_batches
from pose.data.multi_samples import ImageDataset
from pose.data.person_set import PersonSet
from pose.data.prepare.coco import prepare_coco
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.samples import SampleDataset
from pose.data.single_samples import PersonDataset
from pose.data.synthetic import synthesize
from pose.io.images import decode_image
from pose.io.schema import parse
from pose.params import Params, SplitCounts, SyntheticParams, load_params

ROOT = Path(__file__).resolve().parents[1]
DRAWN = {
    "lsp": {"train": 100, "test": 100},
    "lspet": 300,
    "mpii": {"train": 0, "validation": 0},
    "coco": {"train": 0, "validation": 0},
    "size": 160,
}
IMAGES_OF_A_BATCH = 8  # at 512 px
READ, WARPED = "`cv2.imread`", "`cv2.imread` + one `warpAffine`"
SAMPLE, FLOATS = "full sample, collated", "the same, then floats for the network"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--root", type=Path, help="folder with LSP, LSPET or mpii as published, to be measured too"
    )
    parser.add_argument(
        "--input",
        type=int,
        help="side of the network's input, px (default: single.input_size of params.yaml)",
    )
    parser.add_argument("--people", type=int, default=500, help="at most so many take part")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--name", default="data_path", help="of the files in benchmarks/results")
    options = parser.parse_args()

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    params = load_params(ROOT / "params.yaml")
    if options.input:
        params = params.model_copy(
            update={"single": params.single.model_copy(update={"input_size": options.input})}
        )
    sets = {}
    with tempfile.TemporaryDirectory() as scratch:
        drawn = ROOT / "data" / "synthetic"
        if not drawn.is_dir():
            drawn = Path(scratch) / "drawn"
            synthesize(parse(SyntheticParams, DRAWN, "drawn"), seed=1, root=drawn)
        for title, root in {"Drawn people": drawn, "People of --root": options.root}.items():
            if root:
                prepared = Path(scratch) / "lsp_mpii.h5"
                prepare_lsp_mpii(root, prepared, params=params.prepare, seed=params.seed)
                sets[title] = compare(prepared, root, params, most=options.people, rounds=options.rounds)
        if options.root and (options.root / "coco").is_dir():
            paper = preset("paper", Path(scratch))
            sets["Images of --root"] = compare_images(options.root, Path(scratch), paper, options.rounds)
    write(options.name, {"sets": sets}, report(sets))


def compare(prepared: Path, root: Path, params: Params, *, most: int, rounds: int) -> dict[str, Any]:
    """Take all variants through the same people, in turns."""
    people = PersonSet(prepared)
    files, data, rows = same_bytes(prepared, people, root, most)
    single, batch = params.single, params.task("hgpose").batch
    dataset = PersonDataset(people, rows, single, seed=params.seed)
    augments = [
        Augment.draw(np.random.default_rng([params.seed, 0, row]), single.augment) for row in rows.tolist()
    ]
    affines = [
        person_affine(
            people.centre_N2[row],
            people.scale_N[row],
            params=single,
            augment=augment,
        )
        for row, augment in zip(rows, augments, strict=True)
    ]

    def decoded() -> None:
        for image in data:
            decode_image(image, "packed image")

    def cropped() -> None:
        for image, affine in zip(data, affines, strict=True):
            warp(decode_image(image, "packed image"), affine, single.input_size)

    parts = {"decode": decoded, "crop": cropped}
    each = seconds_of_a_sample(files, affines, dataset, single.input_size, batch, rounds, parts)
    return {
        "sources": sorted(set(people.source_N[rows].tolist())),
        "image_px": people.image_size_N2[rows].mean(axis=0).round().astype(int).tolist(),
        "input_px": single.input_size,
        "batch": batch,
        **rates(each, len(rows), rounds),
        "microseconds_of_a_sample": {
            "decode to RGB": 1e6 * float(np.median(each["decode"])),
            "crop by one affine": 1e6 * float(np.median(each["crop"] - each["decode"])),
            "all else: fetch the bytes, draw, move joints, targets, collate": 1e6
            * float(np.median(each[SAMPLE] - each["crop"])),
        },
    }


def compare_images(root: Path, folder: Path, params: Params, rounds: int) -> dict[str, Any]:
    """The same for complete images of COCO, whose targets are those of all people."""
    every = params.prepare.coco.model_copy(update={"min_people": SplitCounts(train=0, validation=0)})
    prepare_coco(root, folder / "coco", params=every, seed=params.seed)
    people = ImageSet(folder / "coco")
    multi, batch, rows = params.multi, IMAGES_OF_A_BATCH, people.rows("train")
    files = [str(root / "coco" / people.name(row)) for row in rows.tolist()]
    dataset = ImageDataset(people, rows, multi, seed=params.seed)
    affines = [image_affine(size_wh, multi.input_size) for size_wh in people.image_size_I2[rows]]

    each = seconds_of_a_sample(files, affines, dataset, multi.input_size, batch, rounds)
    return {
        "sources": ["coco"],
        "image_px": people.image_size_I2[rows].mean(axis=0).round().astype(int).tolist(),
        "input_px": multi.input_size,
        "batch": batch,
        **rates(each, len(rows), rounds),
    }


def seconds_of_a_sample(
    files: list[str],
    affines: list[np.ndarray],
    dataset: SampleDataset,
    size: int,
    batch: int,
    rounds: int,
    parts: Mapping[str, Callable[[], None]] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """CPU time of each variant, in turns, in each round.

    affines: of one crop of each file. parts: of a sample's work, measured beside them.
    """

    def read() -> None:
        for file in files:
            cv2.imread(file)

    def warped() -> None:
        for file, affine in zip(files, affines, strict=True):
            image = cv2.imread(file)
            assert image is not None, file
            cv2.warpAffine(image, affine, (size, size))

    def sample() -> None:
        for _ in Loader(dataset, sequential_batches(len(files), batch), workers=0):
            pass

    def floats() -> None:
        for raw in Loader(dataset, sequential_batches(len(files), batch), workers=0):
            raw.to(torch.device("cpu"))

    seconds = in_turns({READ: read, WARPED: warped, SAMPLE: sample, FLOATS: floats, **parts}, rounds)
    return {name: values / len(files) for name, values in seconds.items()}


def rates(each: dict[str, np.ndarray], samples: int, rounds: int) -> dict[str, Any]:
    """Samples a second, and shares of the limits. each: seconds a sample in each round."""
    return {
        "samples": samples,
        "rounds": rounds,
        "samples_per_second_and_core": {
            name: float(1 / np.median(each[name])) for name in (READ, WARPED, SAMPLE, FLOATS)
        },
        "share_of_imread": {name: spread(each[READ] / each[name]) for name in (WARPED, SAMPLE, FLOATS)},
        "share_of_imread_and_warp": {name: spread(each[WARPED] / each[name]) for name in (SAMPLE, FLOATS)},
    }


def same_bytes(
    prepared: Path, people: PersonSet, root: Path, most: int
) -> tuple[list[str], list[bytes], np.ndarray]:
    """Training people whose packed bytes are their image's file.

    The files, their bytes, the rows; at most so many, evenly spread.
    """
    rows: list[int] = []
    with h5py.File(prepared) as file:
        for row in people.rows("train"):
            image = root / people.name(row)
            size, data = image.stat().st_size, file["packed"][row]
            if size == len(data) and image.read_bytes() == data.tobytes():
                rows.append(int(row))
    if not rows:
        raise SystemExit(f"error: {root}: no person whose packed image is the image's file")
    rows = [rows[place] for place in np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    files = [str(root / people.name(row)) for row in rows]
    return files, [Path(file).read_bytes() for file in files], np.array(rows)


def report(sets: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        "# Training data path",
        "",
        "One thread, variants in turns. Ratios are of CPU time within a round: median (middle half of the"
        " rounds).",
    ]
    for title, result in sets.items():
        width, height = result["image_px"]
        lines += [
            "",
            f"## {title} ({', '.join(result['sources'])})",
            "",
            f"{result['samples']} samples, of images of {width} x {height} px on average, input"
            f" {result['input_px']} px, batch {result['batch']}, {result['rounds']} rounds.",
            "",
            "| | samples per second and core | share of the rate of `imread` | of `imread` + warp |",
            "|---|---|---|---|",
        ]
        for name, rate in result["samples_per_second_and_core"].items():
            shares = [result[key].get(name) for key in ("share_of_imread", "share_of_imread_and_warp")]
            lines.append(
                f"| {name} | {rate:,.0f} | "
                + " | ".join(shown(share) if share else "" for share in shares)
                + " |"
            )
        if parts := result.get("microseconds_of_a_sample"):
            lines += ["", "| a sample's time | microseconds |", "|---|---|"]
            lines += [f"| {name} | {value:.0f} |" for name, value in parts.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
