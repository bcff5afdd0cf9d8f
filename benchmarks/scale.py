"""What a set of the size of COCO costs: prepared, hashed as training does at its start, and one epoch read.

    python benchmarks/scale.py [--images 100000] [--folder FOLDER]

Of so many generated small images with two people each, and of a quarter of them: memory that grows with the
number of images is what the two peaks differ by. Each step is a process of its own. Everything is written
below FOLDER (default: where temporary files go), about 2 GB at 100,000 images, and removed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from common import write
from tqdm import tqdm

from pose.data.image_set import SPLITS, ImageSet
from pose.data.loader import Loader, ResumableBatchSampler
from pose.data.prepare.coco import prepare_coco
from pose.io.files import file_hash
from pose.keypoints.skeleton import built_in
from pose.metrics.truth import check_truth
from pose.params import Params, SplitCounts, load_params
from pose.tasks.task import open_data

ROOT = Path(__file__).resolve().parents[1]
TASK = "hgpose-ae"
SIZE = 128, 96  # px, width and height
PEOPLE = 2  # of an image
VALIDATION = 20  # every one of so many images
PART = 4  # memory is compared with that of a set so many times smaller
SETS = {"COCO 2017": 118_287 + 5_000, "MPII": 25_000}  # images, of MPII about so many
COCO_GB = 20  # of its images, packed at the size that they have


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to write")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    if options.step:
        cv2.setNumThreads(0)
        torch.set_num_threads(1)
        print(json.dumps(measured(STEPS[options.step], options.folder)))
        return
    found = {}
    for images in (options.images // PART, options.images):
        with tempfile.TemporaryDirectory(prefix="pose-scale-", dir=options.folder) as name:
            generate(Path(name) / "raw" / "coco", images)
            found[images] = {step: in_own_process(step, Path(name)) for step in STEPS}
            found[images]["bytes"] = {part: size(Path(name) / part) for part in ("raw", "prepared")}
    few, many = found.values()
    grown = {step: (many[step]["peak_mb"] - few[step]["peak_mb"]) * 2**20 for step in STEPS}
    images = options.images - options.images // PART
    result = {"sets": found, "bytes_of_memory_an_image": {step: grown[step] / images for step in STEPS}}
    write("scale", result, report(result))


def generate(coco: Path, images: int) -> None:
    """A set in the form of COCO 2017, entries as long as COCO's; the images are copies of a few."""
    draw, width, height = np.random.default_rng(0), *SIZE
    blocks_N643 = draw.integers(0, 256, (16, 6, 8, 3), dtype=np.uint8)
    jpegs = [cv2.imencode(".jpg", cv2.resize(one, SIZE))[1].tobytes() for one in blocks_N643]
    joints = built_in("coco").joints
    category = {"id": 1, "name": "person", "keypoints": [*joints], "skeleton": []}
    content: dict[str, dict[str, Any]] = {
        split: {"info": {}, "images": [], "annotations": [], "categories": [category]}
        for split in ("train2017", "val2017")
    }
    for split in ("annotations", *content):
        (coco / split).mkdir(parents=True)
    joint_IPKT = draw.integers(4, height - 4, (images, PEOPLE, len(joints), 3))
    joint_IPKT[..., 2] = 2
    corner_IPC = draw.uniform(4, height - 4, (images, PEOPLE, 24)).round(2)
    for number in tqdm(range(1, images + 1), "generating", unit="image", disable=None):
        split = "train2017" if number % VALIDATION else "val2017"
        name = f"{number:012d}.jpg"
        (coco / split / name).write_bytes(jpegs[number % len(jpegs)])
        urls = {"coco_url": f"http://images.example.org/{split}/{name}", "license": 3}
        urls |= {"flickr_url": f"http://farm.example.org/{number % 9000}/{number}_z.jpg"}
        urls |= {"date_captured": "2013-11-15 02:41:42"}
        entry = {"id": number, "file_name": name, "width": width, "height": height}
        content[split]["images"].append(entry | urls)
        for person in range(PEOPLE):
            annotation = {
                "id": PEOPLE * number + person,
                "image_id": number,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [4.0, 4.0, height - 8.0, height - 8.0],
                "area": 0.5 * (height - 8.0) ** 2,
                "num_keypoints": len(joints),
                "keypoints": joint_IPKT[number - 1, person].ravel().tolist(),
                "segmentation": [corner_IPC[number - 1, person].tolist()],
            }
            content[split]["annotations"].append(annotation)
    for split, one in content.items():
        (coco / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(one))


def prepare(folder: Path, params: Params) -> None:
    every = params.prepare.coco.model_copy(update={"images": SplitCounts(train=0, validation=0)})
    prepare_coco(folder / "raw", folder / "prepared", params=every, seed=params.seed, check=check_truth)


def hash_files(folder: Path, _: Params) -> None:
    images = ImageSet(folder / "prepared")
    file_hash(images.path, *(images.annotations(split) for split in SPLITS))


def load(folder: Path, params: Params) -> None:
    """An epoch of augmented samples, without loader workers: their work and memory are of this process."""
    data = open_data(params.problem(TASK), folder / "prepared")
    rows, batch = data.rows("train"), params.task(TASK).batch
    sampler = ResumableBatchSampler(len(rows), batch, seed=params.seed, start=0, stop=len(rows) // batch)
    for _ in Loader(data.dataset(rows, seed=params.seed), sampler, workers=0):
        pass


STEPS: dict[str, Callable[[Path, Params], None]] = {"prepare": prepare, "hash": hash_files, "load": load}


def measured(step: Callable[[Path, Params], None], folder: Path) -> dict[str, float]:
    """CPU seconds and the highest resident memory of this process, MB."""
    params, started = load_params(ROOT / "params.yaml"), time.process_time()
    step(folder, params)
    seconds = time.process_time() - started
    status = Path("/proc/self/status").read_text()  # getrusage counts the parent's memory too
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return {"cpu_seconds": seconds, "peak_mb": int(peak) / 2**10}


def in_own_process(step: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def report(result: dict[str, Any]) -> str:
    """The tables."""
    (few, _), (images, found) = result["sets"].items()
    memory, total = result["bytes_of_memory_an_image"], found["bytes"]
    rate = total["prepared"] / found["hash"]["cpu_seconds"]
    names = {
        "prepare": "`prepare_coco`",
        "hash": "hash of the prepared data, at the start of training",
        "load": f"one epoch of samples of `{TASK}`, augmented",
    }
    lines = [
        "# A set of the size of COCO",
        "",
        f"{images:,} generated images of {SIZE[0]} x {SIZE[1]} px with {PEOPLE} people each. Memory an"
        f" image is the difference to the peak with {few:,} images.",
        "",
        "| | CPU s | CPU ms an image | peak memory, MB | kB an image |",
        "|---|---|---|---|---|",
    ]
    for step, name in names.items():
        seconds, peak = found[step]["cpu_seconds"], found[step]["peak_mb"]
        each = f"{1000 * seconds / images:.2f} | {peak:,.0f} | {memory[step] / 1000:.1f}"
        lines.append(f"| {name} | {seconds:,.1f} | {each} |")
    lines += [
        "",
        f"On disk: {total['raw'] / 1e6:,.0f} MB raw, {total['prepared'] / 1e6:,.0f} MB prepared.",
        "",
        "Extrapolated, not measured: by the number of images, as if they were as small and showed as many"
        " people. Images of COCO have 25 times the pixels: decoding adds to the times, not to the memory.",
        "",
        "| | images | prepare: memory, MB | CPU s, more for larger images | load: CPU s, likewise |",
        "|---|---|---|---|---|",
    ]
    for name, count in SETS.items():
        peak = found["prepare"]["peak_mb"] + (count - images) * memory["prepare"] / 2**20
        times = (found[step]["cpu_seconds"] * count / images for step in ("prepare", "load"))
        lines.append(
            f"| {name} | {count:,} | {peak:,.0f} | " + " | ".join(f"{one:,.0f}" for one in times) + " |"
        )
    lines += [
        "",
        f"Hashing reads {rate / 1e6:,.0f} MB a CPU second: the {COCO_GB} GB of COCO's images, were they"
        f" packed as they are, take {COCO_GB * 1e9 / rate:,.0f} s once per machine.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
