"""A logged model behind `mlflow models serve`: one real server for all tests, far from this repository."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, free_port, wait_until, write_active_weights
from raw_sets import with_orientation

from pose.cli import run
from pose.inference.predictor import Predictor
from pose.io.images import encode_jpeg
from pose.models.weights import load_weights, save_weights
from pose.params import Params
from pose.tracking.logged_model import model_settings
from pose.tracking.pyfunc_model import PoseModel

pytestmark = pytest.mark.slow  # the server takes a while to start

IMAGES = np.random.default_rng(0).integers(0, 255, (2, 48, 40, 3), dtype=np.uint8)
SIZES = [IMAGES[0], IMAGES[1][:40, :32]]


def text(image: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1].tobytes()).decode()


def table(*cells: Any, columns: tuple[str, ...] = ("image",)) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": [[cell] for cell in cells]}}


@pytest.fixture(scope="module")
def weights(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that see many people, all of them without a nose."""
    path = write_active_weights(params, tmp_path_factory.mktemp("weights"))
    weights = load_weights(path)
    head = max(name for name in weights.tensors if re.fullmatch(r"heads\.\d+\.weight", name))
    weights.tensors[head][0] = 0
    weights.tensors[head.replace("weight", "bias")][0] = -1e6
    save_weights(path, weights)
    return path


@pytest.fixture(scope="module")
def logged(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model as a run keeps it."""
    folder = tmp_path_factory.mktemp("logged") / "model"
    mlflow.pyfunc.save_model(folder, **model_settings(weights))
    return folder


@pytest.fixture(scope="module")
def expected(weights: Path) -> Callable[[Any], pd.DataFrame]:
    """What the model finds in this process."""
    return PoseModel(Predictor.load(weights)).predict


Answer = tuple[int, Any]


@pytest.fixture(scope="module")
def address(logged: Path) -> Iterator[str]:
    """The address of the server."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = ["models", "serve", "--model-uri", str(logged), "--port", str(port), "--env-manager", "local"]
    found = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # MLflow calls uvicorn
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # As in the tests: some machines round otherwise with two threads, and of peaks that are nearly equal, as
    # here, rounding decides which one is taken.
    environment["OMP_NUM_THREADS"] = "1"
    settings: dict[str, Any] = {"cwd": logged.parent, "env": {**environment, "PATH": found}}
    settings |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    server = subprocess.Popen([sys.executable, "-m", "mlflow", *words], **settings)

    def is_up() -> bool:
        assert server.poll() is None, "the server has ended"
        with suppress(OSError):
            return urlopen(f"{address}/ping", timeout=5).status == 200
        return False

    try:
        wait_until(is_up, 120)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.fixture(scope="module")
def ask(address: str) -> Callable[..., Answer]:
    """Sends a body, JSON or bytes, to the server; its status, and its answer as JSON."""

    def ask(content: Any, kind: str = "application/json") -> Answer:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = Request(f"{address}/invocations", body, {"Content-Type": kind})
        try:
            with urlopen(request, timeout=60) as response:
                return response.status, json.load(response, parse_constant=pytest.fail)  # NaN is no JSON
        except HTTPError as error:
            return error.code, json.load(error)

    return ask


def assert_answered(answer: Answer, expected: pd.DataFrame) -> None:
    status, content = answer
    assert status == 200, content
    found = pd.DataFrame(content["predictions"]).astype(expected.dtypes)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1e-2)


ONE_SIZE: dict[str, Any] = {
    "inputs": {"inputs": IMAGES.tolist()},
    "inputs, floats": {"inputs": IMAGES.astype(np.float64).tolist()},
    "inputs, base64": {"inputs": [text(image) for image in IMAGES]},
    "inputs, a column": {"inputs": {"image": IMAGES.tolist()}},
    "instances": {"instances": IMAGES.tolist()},
    "instances, objects": {"instances": [{"image": image} for image in IMAGES.tolist()]},
    "instances, base64": {"instances": [text(image) for image in IMAGES]},
    "a table of base64": table(*map(text, IMAGES)),
    "a table of pixels": table(*IMAGES.tolist()),
    "records of base64": {"dataframe_records": [{"image": text(image)} for image in IMAGES]},
}
TWO_SIZES: dict[str, Any] = {
    "inputs, objects": {"inputs": [{"image": image.tolist()} for image in SIZES]},
    "inputs, base64": {"inputs": [text(image) for image in SIZES]},
    "a table of pixels": table(*(image.tolist() for image in SIZES)),
    "a table of base64": table(*map(text, SIZES)),
    "records of pixels": {"dataframe_records": [{"image": image.tolist()} for image in SIZES]},
}


@pytest.mark.parametrize("body", ONE_SIZE.values(), ids=ONE_SIZE)
def test_images_of_one_size_are_answered_in_any_body(ask, expected, body):
    table = expected(list(IMAGES))
    assert table["image"].nunique() == 2
    assert table["x"].isna().any()
    assert_answered(ask(body), table)


@pytest.mark.parametrize("body", TWO_SIZES.values(), ids=TWO_SIZES)
def test_images_of_two_sizes_are_answered(ask, expected, body):
    assert_answered(ask(body), expected(SIZES))


def test_a_csv_of_base64_and_the_logged_example_are_answered(ask, expected, logged):
    lines = "\n".join(["image", *map(text, IMAGES)])
    assert_answered(ask(lines.encode(), "text/csv"), expected(list(IMAGES)))
    status, content = ask((logged / "serving_input_example.json").read_bytes())
    assert status == 200, content


HOSTILE: dict[str, tuple[Any, str]] = {
    "a file of the server": ({"inputs": ["/etc/passwd"]}, "found text that is not base64 ('/etc/passwd')"),
    "no base64": (table("<script>" * 10_000), "images[0]: found text that is not base64"),
    "no image": (table(text(IMAGES[0]), "aGVsbG8="), "images[1]: cannot be decoded"),
    "four channels": ({"instances": np.ones((2, 8, 8, 4)).tolist()}, "found float64 of shape (8, 8, 4)"),
    "above 255": ({"inputs": (IMAGES + np.int64(9)).tolist()}, "images[0]: found numbers from 9 to 263"),
    "from 0 to 1": ({"inputs": (IMAGES / 255).tolist()}, "images[0]: found numbers from 0 to 0.99"),
    "no images": ({"inputs": []}, "images: found none"),
    "an empty table": (table(), "images: found none"),
    "two columns": ({"inputs": {"image": ["a"], "mask": ["b"]}}, "images: found columns image, mask"),
    "nothing": ({"inputs": None}, "images[0]: found float64 of shape ()"),
    "a number": ({"inputs": 5}, "images[0]: found int64 of shape ()"),
    "junk": ({"inputs": [{"a": {"b": [1] * 1000}}] * 200}, "images[0]: found object of shape ()"),
    "deep junk": (
        b'{"dataframe_records": [{"image": ' + b"[" * 500 + b"]" * 500 + b"}]}",
        "images[0]: found list",
    ),
}


@pytest.mark.parametrize(("body", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_is_refused_in_one_line(ask, body, message):
    status, answer = ask(body)
    assert status == 400
    assert message in answer["message"]
    assert "\n" not in answer["message"]
    assert len(json.dumps(answer)) < 500
    assert "stack_trace" not in answer


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_what_the_page_on_serving_sends_is_answered(address, tmp_path):
    page = (ROOT / "docs" / "howto" / "serve.md").read_text(encoding="utf-8")
    blocks = [one for one in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL) if "curl" in one]
    assert len(blocks) > 1
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(encode_jpeg(IMAGES[0], 95))
    for block in blocks:
        command = block.replace("http://127.0.0.1:5000", address)
        done = subprocess.run(["bash", "-e", "-c", command], cwd=tmp_path, capture_output=True, timeout=60)
        assert json.loads(done.stdout)["predictions"], command


def test_a_photo_is_turned_upright_as_in_pose_predict(ask, weights, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(with_orientation(encode_jpeg(IMAGES[0], 95), 6))
    run(["predict", str(path), "--weights", str(weights), "--out", str(tmp_path / "out"), "--min-score", "0"])
    [image] = json.loads((tmp_path / "out" / "joints.json").read_text())["images"]
    assert (image["width"], image["height"]) == IMAGES.shape[1:3]  # turned: rows are columns
    joints = [joint for person in image["people"] for joint in person["joints"]]
    status, content = ask(table(base64.b64encode(path.read_bytes()).decode()))
    assert status == 200, content
    assert [row["joint"] for row in content["predictions"]] == [joint["joint"] for joint in joints]
    for name in ("x", "y", "confidence"):
        found, wanted = (
            np.array([row[name] for row in rows], np.float64) for rows in (content["predictions"], joints)
        )
        np.testing.assert_allclose(found, wanted, atol=0.02, equal_nan=True)


def test_a_model_is_loaded_without_this_repository_and_with_its_requirements_alone(logged):
    lines = (logged / "requirements.txt").read_text().splitlines()
    needed = {"h5py", "mlflow", "numpy", "opencv-python-headless", "pandas", "psutil", "pydantic"}
    needed |= {"ruamel.yaml", "scipy", "torch", "tqdm"}
    assert {re.match(r"[\w.-]+", line)[0] for line in lines} == needed
    left_out = {"dvc", "faster_coco_eval", "jinja2", "matplotlib", "pycocotools"}
    code = f"""
import sys
class Absent:  # asked before any installed package is looked for
    def find_spec(self, name, path=None, target=None):
        is_checkout = name == "pose" and not sys.path[0].startswith({str(logged)!r})
        if name.split(".")[0] in {left_out!r} or is_checkout:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import mlflow, numpy
model = mlflow.pyfunc.load_model({str(logged)!r})
model.predict(numpy.random.randint(0, 255, (40, 30, 3)).astype(numpy.uint8))
print(sys.modules["pose"].__file__)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=logged.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(logged / "code" / "pose" / "__init__.py")


def test_the_context_of_an_image_has_all_that_the_server_needs(logged, tmp_path):
    words = ["generate-dockerfile", "--model-uri", str(logged), "--output-directory", str(tmp_path / "image")]
    command = [sys.executable, "-m", "mlflow", "models", *words, "--env-manager", "local"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    image = tmp_path / "image"
    text = (image / "Dockerfile").read_text()
    assert "COPY model_dir/model /opt/ml/model" in text
    assert f"mlflow=={mlflow.__version__}" in text
    for name in ("MLmodel", "requirements.txt", "code/pose/tracking/pyfunc_model.py", "data/last.pt"):
        assert (image / "model_dir" / "model" / name).is_file()
