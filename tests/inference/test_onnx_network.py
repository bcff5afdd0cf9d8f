"""Exported files as `Predictor` runs them: what weights find, without PyTorch."""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import COCO, run_python, user_error

from pose.inference.predictor import Predictor

RNG = np.random.default_rng(0)
IMAGES = [RNG.integers(0, 255, (40 + 9 * n, 90 - 8 * n, 3), dtype=np.uint8) for n in range(5)]


@pytest.fixture
def single_onnx(exported_single: Path) -> Path:
    return exported_single.with_suffix(".onnx")


@pytest.fixture
def multi_onnx(exported_multi: Path) -> Path:
    return exported_multi.with_suffix(".onnx")


@pytest.mark.parametrize("flip", [True, False])
def test_an_exported_file_finds_one_person_where_the_weights_do(exported_single, single_onnx, flip):
    boxes = [None, (10, 10, 40, 50), None, None, (0, 0, 20, 20)]
    exported = Predictor.load(single_onnx, flip=flip)
    wanted = Predictor.load(exported_single, "cpu", flip=flip)
    assert (exported.problem, exported.task, exported.skeleton) == ("single", "hgpose", wanted.skeleton)
    for one, other in zip(exported.predict(IMAGES, boxes), wanted.predict(IMAGES, boxes), strict=True):
        np.testing.assert_allclose(one.joint_PK2, other.joint_PK2, atol=0.02)
        np.testing.assert_allclose(one.score_PK, other.score_PK, atol=1e-4)


@pytest.mark.parametrize("flip", [True, False])
def test_an_exported_file_finds_the_people_that_the_weights_find(exported_multi, multi_onnx, flip):
    exported = Predictor.load(multi_onnx, flip=flip)
    wanted = Predictor.load(exported_multi, "cpu", flip=flip)
    assert (exported.problem, exported.skeleton) == ("multi", COCO)
    for one, other in zip(exported.predict(IMAGES), wanted.predict(IMAGES), strict=True):
        assert len(one) > 1
        # In an untrained network's hundreds of people some joints fit two equally well: the last bits decide.
        assert abs(len(one) - len(other)) <= 0.02 * len(other)
        same_PP = np.isclose(one.score_P[:, None], other.score_P, rtol=0, atol=1e-4)
        distance_PPK = np.linalg.norm(one.joint_PK2[:, None] - other.joint_PK2, axis=3)
        assert (same_PP & ((distance_PPK < 0.1).mean(axis=2) > 0.9)).any(axis=0).mean() > 0.95


def test_it_runs_without_pytorch_and_keeps_no_usage_data(multi_onnx, tmp_path, monkeypatch):
    code = f"""
import sys
import numpy as np
from pose import Predictor
[people] = Predictor.load({str(multi_onnx)!r}).predict([np.zeros((60, 40, 3), np.uint8)])
assert people.joint_PK2.shape[1:] == (17, 2)
print([name for name in ("torch", "pandas", "mlflow", "h5py") if name in sys.modules])
"""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    done = run_python(code, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.rglob("*onnxruntime*")) == []


def test_what_it_cannot_do_is_named(exported_single, multi_onnx, tmp_path, monkeypatch):
    path = Path(shutil.copy(multi_onnx, tmp_path / "net.onnx"))
    for settings, message in (
        ({"scales": [1, 2]}, r"net\.onnx: found scales 1, 2, expected 1"),
        ({"refine": exported_single}, r"net\.onnx: found an exported network, expected weights"),
        ({"device": "abacus"}, "device: found 'abacus', expected cpu"),
        ({"device": "cuda:x"}, "device: found 'cuda:x', expected cpu"),
    ):
        with user_error(message):
            Predictor.load(path, **settings)
    with user_error("box: this network finds all people"):
        Predictor.load(path).predict(IMAGES[0], (1, 2, 3, 4))
    (tmp_path / "damaged.onnx").write_bytes(path.read_bytes()[:900])
    with user_error(r"damaged\.onnx: cannot be read as an exported network"):
        Predictor.load(tmp_path / "damaged.onnx")
    other = onnx.load(path)
    onnx.helper.set_model_props(other, {"author": "somebody"})
    onnx.save(other, tmp_path / "other.onnx")
    with user_error(r"other\.onnx: found 'no description', expected a file of pose export"):
        Predictor.load(tmp_path / "other.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with user_error(r"onnxruntime: not installed, .* pip install 'pose\[onnx\]'"):
        Predictor.load(path)
