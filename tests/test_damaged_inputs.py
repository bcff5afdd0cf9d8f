"""Damaged files of every kind that the project reads: each is refused in one line that names it."""

import gzip
import json
import os
import random
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch
from helpers import COCO, MPII, build_cpu_task, internal_network, write_initial_weights, write_params_file
from ruamel.yaml import YAML

from pose.data.formats.coco_json import read_annotations, read_valid_ids
from pose.data.formats.lsp import read_lsp
from pose.data.formats.mpii import read_mpii_json, read_mpii_mat
from pose.data.formats.published_h5 import read_published
from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet
from pose.data.prepare.categories import Joints
from pose.data.prepare.normalise import read_normalised
from pose.data.results import format_of, read_results, write_results
from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.io.images import read_image
from pose.io.video import VideoReader
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results
from pose.models.published import export_weights, import_file
from pose.params import Params, load_params
from pose.report.files import read_coco_results, read_history, read_metrics, read_single_predictions
from pose.training.checkpoint import CheckpointManager, load_checkpoint

Damage = Callable[[Path], Any]  # changes or replaces a file

SECONDS = 20  # that a file may take
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
    "coco.json": partial(read_annotations, skeleton=COCO),
    "person_keypoints_val.json": lambda path: read_normalised(path.parent, path, Joints(COCO), "stored"),
    "valid_id": read_valid_ids,
    "metrics.json": read_metrics,
    "results.json": lambda path: read_coco_results(path, joints=17),
    **dict.fromkeys(("joints.json", "joints.csv", "pred.mat", "joints.npz"), read_results),
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
    content = {"environment": {}, "optimizer": {}, "adversary": None, "average": None, "best": None}
    content["state"] = {"step": 3}
    net = build_cpu_task(params, "hgpose").net.state_dict()
    checkpoints = CheckpointManager(folder / "checkpoints", "single", {"seed": 1})
    checkpoints.save(net=net, **content)
    shutil.copy(checkpoints.latest, folder)
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
    shutil.copy(folder / "coco.json", folder / "person_keypoints_val.json")
    (folder / "valid_id").write_text("".join(f"{number}\n" for number in range(100, 200)))
    (folder / "metrics.json").write_text(json.dumps({"PCKh": {"0.5": 1.0}, "people": {"all": 3}}))
    (folder / "results.json").write_text(json.dumps([{"image_id": 1, "score": 1, "keypoints": [1.0] * 51}]))
    people = People(np.ones((1, 16, 2)), np.ones((1, 16)), np.ones(1))
    found = Results([ImageResult(people, "a.jpg"), ImageResult(people, "b.jpg")], MPII, 16)
    for name in ("joints.json", "joints.csv", "pred.mat", "joints.npz"):
        write_results(folder / name, found, format_of(Path(name), None))
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


# --- damages ---


def content(data: bytes) -> Damage:
    return lambda path: path.write_bytes(data)


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def flipped(seed: int, bits: int) -> Damage:
    def damage(path: Path) -> None:
        bit_N = np.unpackbits(np.frombuffer(path.read_bytes(), np.uint8))
        bit_N[np.random.default_rng(seed).integers(len(bit_N), size=bits)] ^= 1
        path.write_bytes(np.packbits(bit_N).tobytes())

    return damage


def put(keys: tuple[Any, ...], value: Any) -> Damage:
    """Another value at a key of a JSON, YAML or torch file."""

    def damage(path: Path) -> None:
        values = inner = load(path)
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        if path.suffix == ".pt":
            torch.save(values, path)
        else:
            path.write_text(json.dumps(values))  # which is YAML too

    return damage


def load(path: Path) -> Any:
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    return YAML(typ="safe").load(path) if path.suffix == ".yaml" else json.loads(path.read_text())


def all_keys(values: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key, of lists that of the first entry."""
    entries = dict(enumerate(values[:1])) if isinstance(values, list) else values
    for key, value in entries.items() if isinstance(entries, dict) else ():
        if not isinstance(value, torch.Tensor):
            yield *above, key
            yield from all_keys(value, (*above, key))


def playlist(path: Path) -> None:
    """A list of other videos, which FFmpeg would read."""
    path.rename(path.with_name("other.avi"))
    path.write_text("ffconcat version 1.0\nfile other.avi\n")


def run_a_command(path: Path) -> None:
    """A torch file whose pickle runs a command as it is loaded."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, data in parts.items():
            code = b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch owned\x85R."
            file.writestr(name, code if name.endswith("data.pkl") else data)


REFUSED: dict[str, Damage] = {
    "missing": Path.unlink,
    "empty": content(b""),
    "cut to a byte": lambda path: path.write_bytes(path.read_bytes()[:1]),
    "cut in the middle": cut(0.5),
    "cut near the end": cut(0.97),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "noise": content(random.Random(0).randbytes(5000)),
    "a web page": content(b"<html><body>404 not found</body></html>"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}
REFUSED_OF: dict[str, dict[str, Damage]] = {
    **{key: {"a playlist": playlist} for key in ("video.mp4", "video.avi")},
    **{key: {"runs a command": run_a_command} for key in ("latest.pt", "weights.pt", "foreign.tar")},
    **{key: {"nested deep": content(b"[" * 100_000)} for key in ("metrics.json", "coco.json")},
    "joints.mat": {"of version 7.3": lambda path: h5py.File(path, "w").close()},
    "params.yaml": {"runs a command": content(b"seed: !!python/object/apply:os.system ['touch owned']")},
}
SHORTER = ("cut to a byte", "cut in the middle", "cut near the end")
SOUND_STILL = {
    "video.avi": SHORTER,
    "valid_id": ("empty", *SHORTER),
    "train.csv": SHORTER,
    "joints.csv": SHORTER[1:],
}
WRONG = ["text", None, [], {}, -1, 1e300, float("nan"), 10**30, True, "../../etc/passwd", [[1], 2], "a\nb"]


def damages(file: Path) -> Iterator[tuple[str, Damage, bool]]:
    """Name, damage, and whether the file must be refused; others may be read, if they are in range."""
    for name, damage in (REFUSED | REFUSED_OF.get(file.name, {})).items():
        yield name, damage, name not in SOUND_STILL.get(file.name, ())
    for seed, bits in ((0, 6), (1, 6), (2, 6), (3, 6), (9, 400)):
        yield f"{bits} bits flipped", flipped(seed, bits), False
    if file.suffix in (".json", ".yaml", ".pt"):
        pairs = [(keys, wrong) for keys in all_keys(load(file)) for wrong in WRONG]
        for keys, wrong in pairs[:: len(pairs) // (20 if file.suffix == ".pt" else 60) + 1]:
            yield f"{'.'.join(map(str, keys))} {wrong!r}", put(keys, wrong), False


# --- tests ---


@pytest.mark.parametrize("name", READERS)
def test_a_sound_file_is_read(sound, name):
    assert READERS[name](sound / name) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(sound, tmp_path, monkeypatch, name):
    for number, (damage_name, damage, refused) in enumerate(damages(sound / name)):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        path = Path(shutil.copy(sound / name, folder))
        damage(path)
        before = sorted(folder.iterdir())
        signal.alarm(SECONDS)  # a reader that hangs ends the tests
        try:
            READERS[name](path)
        except UserError as error:
            message = str(error)
            assert name in message, damage_name
            assert "\n" not in message, damage_name
            assert len(message) < 1000, damage_name
            assert sorted(folder.iterdir()) == before, f"{damage_name} wrote files"
        except Exception as error:
            raise AssertionError(f"{damage_name}: an error without a name") from error
        else:
            assert not refused, f"{damage_name} was read as if it were sound"
        finally:
            signal.alarm(0)
