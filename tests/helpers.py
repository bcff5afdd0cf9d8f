"""What several test files use: small inputs, workspaces, stages run as a user would run them."""

import ast
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch
from filelock import FileLock
from torch import nn

from pose.data.prepared_set import PreparedSet
from pose.io.errors import UserError
from pose.io.schema import read_yaml, write_yaml
from pose.keypoints.skeleton import Skeleton, built_in
from pose.models.published import EXTERNAL_FORMATS
from pose.models.weights import NO_MEAN, save_weights
from pose.params import Params, parse_params
from pose.tasks.task import Task, build_task

MadeOnce = Callable[[str, Callable[[Path], object]], Path]  # see the fixture made_once


def build_cpu_task(params: Params, name: str) -> Task:
    """A task on the CPU, of the skeleton of its problem's data set."""
    skeleton = {"single": MPII, "multi": COCO}[params.task(name).problem]
    return build_task(params, name, skeleton=skeleton, device=CPU)


def column(people: PreparedSet, name: str) -> list[Any]:
    """A column of a prepared file."""
    with h5py.File(people.path) as file:
        return file[name][()].tolist()


def one_stack(params: Params) -> Params:
    """The same with networks of one stack, which are exported in half of the time."""
    return with_values(params, {f"tasks.{name}.network.stacks": 1 for name in ("hgpose", "hgpose-ae")})


def write_initial_weights(params: Params, name: str, folder: Path) -> Path:
    """Weights of a task as its seed draws them."""
    task = build_cpu_task(params, name)
    save_weights(folder / "last.pt", task.weights())
    return folder / "last.pt"


def write_given_weights(
    params: Params, name: str, folder: Path, *, joints: Sequence[str], mean: Sequence[float] = NO_MEAN
) -> Path:
    """Weights of a task of these joints, to begin another one from; no tensor is as the seed draws it."""
    skeleton = Skeleton.model_validate({"name": "given", "joints": joints})
    task = build_task(params, name, skeleton=skeleton, device=CPU)
    for tensor in task.net.state_dict().values():
        tensor.add_(1) if tensor.dtype == torch.int64 else tensor.mul_(1.1).add_(0.01)
    save_weights(folder / "given.pt", replace(task.weights(), mean=tuple(mean)))
    return folder / "given.pt"


def write_active_weights(params: Params, folder: Path) -> Path:
    """Untrained multi-person weights that see people everywhere: heatmaps with peaks of many heights."""
    task = build_cpu_task(params, "hgpose-ae")
    head, joints = task.net.heads[-1], len(COCO)
    with torch.no_grad():
        spread_K = task.net(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[
            :, -1, :joints
        ].std(dim=(0, 2, 3))
        head.weight[:joints] *= (2 / spread_K)[:, None, None, None]
        head.bias[:joints] = -2.0
    save_weights(folder / "last.pt", task.weights())
    return folder / "last.pt"


COCO, LSP, MPII = built_in("coco"), built_in("lsp"), built_in("mpii")
CPU = torch.device("cpu")
# Training is held to what a CPU promises: equal bits, and more processes than GPUs.
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


def make_workspace(
    folder: Path, params: Params, prepared: Path, prepared_coco: Path, *, store: bool = True
) -> Path:
    """A folder to train in, in one process: params.yaml, the prepared sets and, if asked for, a store."""
    (folder / "data" / "prepared").mkdir(parents=True)
    (folder / "data" / "prepared" / "lsp_mpii.h5").symlink_to(prepared)
    (folder / "data" / "prepared" / "coco").symlink_to(prepared_coco)
    write_params_file(folder, with_values(params, {"train.processes": 1}).model_dump())
    if store:
        shutil.copy(empty_store(), folder)
    return folder


@cache
def empty_store() -> Path:
    """An MLflow store without any run, to be copied: its tables take seconds to make, and so are kept."""
    path = ROOT / f".pytest_cache/d/mlflow-{version('mlflow')}.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            from pose.tracking.store import MlflowClient  # there, where MLflow's settings are made

            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder, "mlflow.db")
                MlflowClient(f"sqlite:///{made}").search_experiments()
                shutil.copy(made, f"{path}.new")
            os.replace(f"{path}.new", path)
    return path


# In the compiler's place: links a library in no time.
COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then exec c++ --version; fi
while [ "$1" != -o ]; do shift; done
echo 'int operator_library;' | exec c++ -x c++ -shared -fPIC - -o "$2"
"""


def write_fast_compiler(folder: Path) -> Path:
    """A compiler of C++ that leaves out what it is to compile, for tests of what is around the operator."""
    path = folder / "fast_c++"
    path.write_text(COMPILER)
    path.chmod(0o755)
    return path


def write_params_file(folder: Path, values: dict) -> None:
    write_yaml(folder / "params.yaml", values)


def set_param(folder: Path, key: str, value: object) -> None:
    """Change a value of the folder's params.yaml, by its dotted key."""
    write_params_file(folder, _changed(read_yaml(folder / "params.yaml"), {key: value}))


def clean_environment() -> dict[str, str]:
    cleaned = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DVC"))}
    return cleaned | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **NO_GPU}


def run_python(
    code: str, *words: str, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """This code in a process of its own, where nothing is loaded yet. variables: of the environment."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def without_packages(*names: str) -> str:
    """Code after which these packages cannot be imported, though they may be installed."""
    return f"""
import sys
class Absent:  # asked before any installed package is looked for
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def git(*words: str, folder: Path = Path()) -> str:
    """What git prints in a repository, for somebody of a name."""
    command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(message: str, folder: Path = Path()) -> None:
    """A commit of all files of the folder, as the first of a new repository if it is none yet."""
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", message]):
        git(*words, folder=folder)


def start_process(*words: str, folder: Path) -> subprocess.Popen:
    """`python -m` with these words, in a folder."""
    command, pipe = [sys.executable, "-m", *words], subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=clean_environment(), stdout=pipe, stderr=pipe, text=True)


def start_stage(stage: str, *args: str, folder: Path) -> subprocess.Popen:
    return start_process(f"stages.{stage}", *args, folder=folder)


def end_of(process: subprocess.Popen, *, within: float = 300) -> tuple[int, str, str]:
    """Status and output of a process that must end by itself; it is killed if it does not."""
    try:
        out, err = process.communicate(timeout=within)
    finally:
        process.kill()
    return process.returncode, out, err


def run_stage(stage: str, *args: str, folder: Path) -> tuple[int, str, str]:
    return end_of(start_stage(stage, *args, folder=folder))


def latest_checkpoint(folder: Path, task: str) -> Path:
    """The latest checkpoint of the task's only run, a file that does not exist if there is none."""
    runs = folder / "checkpoints" / task
    [path] = [*runs.glob("*/latest.pt")] or [runs / "none"]
    return path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder but git's own, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def wait_until(true: Callable[[], bool], seconds: float = 300) -> None:
    """Deadlines are generous, for a busy machine; what comes sooner is not waited for."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def enter_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder the working one, as for a stage; no GPU, none of MLflow's and DVC's variables."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    variables = "MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE"
    for name in variables:
        monkeypatch.setenv(name, "")  # so that what MLflow sets there is undone too
        monkeypatch.delenv(name)


@contextmanager
def user_error(message: str) -> Iterator[None]:
    """Expects what a user is told of a mistake: one line, in which this pattern is found."""
    with pytest.raises(UserError, match=message) as error:
        yield
    text = str(error.value)
    del error  # else it keeps itself alive, and with it all that failed
    assert "\n" not in text


def only_error(result: tuple[int, str, str]) -> str:
    status, _, err = result
    assert status == 1
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


def with_values(params: Params, changes: dict[str, object]) -> Params:
    """Parameters with other values at dotted keys."""
    return parse_params(_changed(params.model_dump(), changes))


def _changed(values: dict, changes: dict[str, object]) -> dict:
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = values
        for part in path:
            inner = inner[part]
        inner[last] = value
    return values


SIZE = 80, 60  # width, height of the images made here


def noise(seed: int, width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height))


SMALL_EXTERNAL: dict[str, dict[str, Any]] = {
    "bearpaw_hg": {"outputs": 16, "stacks": 1, "modules": 2, "features": 16, "stem": [4, 8, 16]},
    "roytseng_hgpose": {"outputs": 16, "stacks": 2, "modules": 1, "features": 8, "stem": [4, 6, 6]},
    "roytseng_discriminator": {"outputs": 17, "stacks": 1, "modules": 1, "features": 8, "stem": [4, 6, 6]},
    "roytseng_hgpose_ae": {"outputs": 36, "stacks": 2, "features": 8, "increase": 2, "stem": [4, 6, 6]},
    "umich_pose_ae": {"outputs": 36, "stacks": 1, "features": 8, "increase": 3, "stem": [4, 6, 8]},
}


@cache
def internal_network(kind: str) -> nn.Module:
    """A network of ours with every tensor drawn, running statistics too.

    One for all tests: none may change it.
    """
    torch.manual_seed(1)
    net = EXTERNAL_FORMATS[kind].network(**SMALL_EXTERNAL[kind])
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
        else:
            tensor.fill_(7)
    return net.eval()


ROOT = Path(__file__).resolve().parents[1]


def module_name(path: Path) -> str:
    """`pose/io/images.py` -> `pose.io.images`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path for folder in ("pose", "stages") for path in sorted((ROOT / folder).rglob("*.py"))
}


def imported_modules(name: str) -> set[str]:
    """Modules that a source imports, anywhere in it; of our own, files rather than names in them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(SOURCES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import at line {node.lineno}"
            whole = f"{node.module}"
            found |= {
                f"{whole}.{alias.name}" if f"{whole}.{alias.name}" in SOURCES else whole
                for alias in node.names
            }
    return found - {name}


def imported_sources(name: str) -> set[str]:
    return {target for target in imported_modules(name) if target in SOURCES and target != "pose"}
