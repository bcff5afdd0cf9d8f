"""Hundreds of damaged files: each is refused in one line that names it, in little time and memory.

They are read in another process, this file run as a program: a hang or crash ends that, not the tests.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch
from damaged_inputs import GENERIC, HARMLESS, SECURITY, Found, wrong_datasets, wrong_values
from helpers import ROOT, build_cpu_task, internal_network, write_initial_weights, write_params_file

from pose.data.formats.coco_json import read_annotations, read_valid_ids
from pose.data.formats.lsp import read_lsp
from pose.data.formats.mpii import read_mpii_json, read_mpii_mat
from pose.data.formats.published_h5 import read_published
from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet
from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.io.images import read_image
from pose.io.video import VideoReader
from pose.models.published import export_weights, import_file
from pose.params import Params, load_params
from pose.report.files import read_coco_results, read_history, read_metrics, read_single_predictions
from pose.training.checkpoint import CheckpointManager, load_checkpoint

SECONDS, MEMORY = 20, 1100 * 2**20  # that a file may take: no sound one here takes a tenth
READERS: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys(("image.jpg", "image.png", "image.bmp", "image.tif", "image.webp"), read_image),
    **dict.fromkeys(("video.mp4", "video.avi"), lambda path: list(VideoReader(path).read_frames())),
    "weights.pt": lambda path: Predictor.load(path, "cpu"),
    "foreign.tar": lambda path: import_file(path, path.with_name("imported.pt")),
    "latest.pt": load_checkpoint,
    "lsp_mpii.h5": lambda path: list((people := PersonSet(path)).images(range(len(people)))),
    "coco.h5": lambda path: [((images := ImageSet(path)).image(0), images.mask(0))],
    "published.h5": read_published,
    "predictions.h5": lambda path: read_single_predictions(path, joints=16),
    "joints.mat": lambda path: read_lsp(path.parent),
    "mpii.mat": read_mpii_mat,
    **dict.fromkeys(("mpii.json", "mpii.json.gz"), read_mpii_json),
    "coco.json": read_annotations,
    "valid_id": read_valid_ids,
    "metrics.json": read_metrics,
    "results.json": lambda path: read_coco_results(path, joints=17),
    "train.csv": lambda path: read_history(path, "step"),
    "params.yaml": load_params,
}


@pytest.fixture(scope="module")
def sound(
    params: Params,
    drawn_root: Path,
    prepared: Path,
    prepared_coco: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a sound file for each reader."""
    folder = tmp_path_factory.mktemp("sound")
    write_params_file(folder, params.model_dump())
    write_initial_weights(params, "hgpose", folder).rename(folder / "weights.pt")
    foreign = export_weights(internal_network("bearpaw_hg").state_dict(), "bearpaw_hg")
    torch.save({"state_dict": foreign}, folder / "foreign.tar")
    content = {"environment": {}, "optimizer": {}, "adversary": None, "best": None, "state": {"step": 3}}
    net = build_cpu_task(params, "hgpose").net.state_dict()
    CheckpointManager(folder, "single", {"seed": 1}).save(net=net, **content)
    shutil.copy(prepared, folder)
    with h5py.File(prepared) as own, h5py.File(folder / "published.h5", "w") as published:
        for name in ("imgname", "center", "scale", "part", "visible", "istrain"):
            published[name] = own[name][()]
    with h5py.File(folder / "predictions.h5", "w") as file:
        file["row"], file["joint"], file["score"] = np.arange(9), np.ones((9, 16, 2)), np.ones((9, 16))
    shutil.copy(prepared_coco / "coco.h5", folder)
    shutil.copy(drawn_root / "LSP/joints.mat", folder)
    shutil.copy(drawn_root / "mpii/mpii_human_pose_v1_u12_1.mat", folder / "mpii.mat")
    people = shutil.copy(drawn_root / "mpii/mpii_annotations.json", folder / "mpii.json").read_bytes()
    (folder / "mpii.json.gz").write_bytes(gzip.compress(people, mtime=0))
    shutil.copy(drawn_root / "coco/annotations/person_keypoints_val2017.json", folder / "coco.json")
    (folder / "valid_id").write_text("".join(f"{number}\n" for number in range(100, 200)))
    (folder / "metrics.json").write_text(json.dumps({"PCKh": {"0.5": 1.0}, "people": {"all": 3}}))
    (folder / "results.json").write_text(json.dumps([{"image_id": 1, "score": 1, "keypoints": [1.0] * 51}]))
    (folder / "train.csv").write_text("step,loss\n" + "".join(f"{step},0.5\n" for step in range(50)))
    image_HW3 = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8), (100, 80))
    for suffix in ("jpg", "png", "bmp", "tif", "webp"):
        cv2.imwrite(str(folder / f"image.{suffix}"), image_HW3, [cv2.IMWRITE_WEBP_QUALITY, 80])
    for name, code in (("video.mp4", "mp4v"), ("video.avi", "MJPG")):
        writer = cv2.VideoWriter(str(folder / name), cv2.VideoWriter.fourcc(*code), 10, (100, 80))
        for shift in range(12):
            writer.write(np.roll(image_HW3, shift, axis=1))
        writer.release()
    return folder


def test_sound_files_are_read(sound: Path):
    for name, read in READERS.items():
        assert read(sound / name) is not None


@pytest.mark.slow
def test_a_damaged_file_is_refused_in_one_line_that_names_it(sound: Path, tmp_path: Path):
    # `pose` first, as in every command: OpenCV reads its limit as it is imported.
    run = "import pose, runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    problems: dict[str, str] = {}
    number, status = -1, 1
    while status:
        command = [sys.executable, "-c", run, __file__, str(sound), str(tmp_path), str(number + 1)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
        replies = [json.loads(line) for line in done.stdout.splitlines()]
        assert replies, "the process cannot start"
        problems |= {name: problem for _, name, problem in replies}
        number, status = replies[-1][0], done.returncode
    assert {name: problem for name, problem in problems.items() if problem} == {}
    assert len(problems) > 300


def all_cases(file: Path) -> Found:
    for name, damage in GENERIC.items():
        yield name, damage, "flipped" in name or name in HARMLESS.get(file.name, ())
    for name, damage in SECURITY.get(file.name, {}).items():
        yield name, damage, False
    if file.suffix in (".json", ".yaml", ".pt"):
        yield from wrong_values(file)
    if file.name == "published.h5":
        yield from wrong_datasets(file)


def problem(path: Path, harmless: bool) -> str:
    """What is wrong with how a damaged file is read; empty if it is refused in one line that names it."""
    before = sorted(path.parent.iterdir())
    if memory("VmHWM") > memory("VmRSS") + 2**27:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    resident = memory("VmRSS")
    signal.alarm(SECONDS)  # which ends the process
    try:
        READERS[path.name](path)
    except UserError as error:
        message = str(error)
        # A size that is only refused as memory is asked for would be granted on a larger machine.
        if path.name not in message or "\n" in message or len(message) > 1000 or "memory" in message:
            return f"message: {message}"
        if sorted(path.parent.iterdir()) != before:
            return "wrote files"
    except BaseException:
        return traceback.format_exc(limit=-2)
    else:
        return "" if harmless else "read as if it were sound"
    finally:
        signal.alarm(0)
    used = memory("VmHWM") - resident
    return f"{used:,} bytes of memory" if used > MEMORY else ""


def memory(key: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text().partition(f"{key}:")[2].split()[0])


def try_all(sound: Path, scratch: Path, first: int) -> None:
    """Try the cases from that number on; print number, name and problem as JSON before and after each."""
    limit = memory("VmSize") + 4 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    cases = [(file, *case) for file in READERS for case in all_cases(sound / file)]
    for number, (file, name, damage, harmless) in list(enumerate(cases))[first:]:
        print(json.dumps([number, f"{file}: {name}", "hangs or crashes"]), flush=True)
        folder = scratch / str(number)
        folder.mkdir()
        os.chdir(folder)
        path = Path(shutil.copy(sound / file, folder))
        damage(path)
        print(json.dumps([number, f"{file}: {name}", problem(path, harmless)]), flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    try_all(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
