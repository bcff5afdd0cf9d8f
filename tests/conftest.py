"""Shared by all tests: where real data is, and small things made in a line."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from filelock import FileLock
from helpers import ROOT, MadeOnce, enter_folder, make_workspace, run_stage

from pose.data.person_set import PersonSet
from pose.data.prepare.coco import prepare_coco
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.synthetic import synthesize
from pose.io.schema import read_yaml
from pose.params import Params, parse_params
from pose.tracking.evaluation import evaluate_task


@pytest.fixture(autouse=True)
def log_lines_for_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests read the log lines of `pose`, though a command run in this process has configured them."""
    logger = logging.getLogger("pose")
    for name, value in {"level": logging.INFO, "propagate": True, "handlers": []}.items():
        monkeypatch.setattr(logger, name, value)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Networks here are tiny: threads that wait for each other cost more than they bring.

    A test may leave another number, on which the last bits of the next one would depend.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images and annotations; a test that wants it is skipped where there is none."""
    folder = Path(os.environ.get("POSE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set POSE_REAL_DATA to the folder that holds it)")
    return folder


@pytest.fixture(scope="session")
def params() -> Params:
    """The committed parameters, made small enough for a test: a tiny network, few steps, few people."""
    values = read_yaml(ROOT / "params.yaml")
    values["synthetic"] |= {
        "lsp": {"train": 8, "test": 8},
        "lspet": 16,
        "mpii": {"train": 24, "validation": 16},
        "coco": {"train": 16, "validation": 8},
    }
    small = {"stacks": 2, "features": 8, "stem": [4, 8, 8]}
    values["single"]["input_size"] = 64
    hourglass = {"kind": "hourglass", "modules": 1, **small}
    values["tasks"]["hgpose"] |= {"network": hourglass, "epochs": 2, "batch": 4}
    values["multi"] |= {"input_size": 64, "held_out": 4}
    ae = {"kind": "ae", "increase": 4, "outputs": 36, **small}
    values["tasks"]["hgpose-ae"] |= {"network": ae, "epochs": 2, "batch": 4}
    for name in ("advpose", "advpose-ae"):  # which extend those two
        values["tasks"][name]["adversary"]["network"] |= {"features": 8, "stem": [4, 8, 8]}
    values["evaluate"]["refine"] = {}  # which would need weights of another task
    values["train"] |= {"val_samples": 8, "train_samples": 4, "checkpoint_every": 5, "workers": 0}
    return parse_params(values)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Makes a folder of a name once for all processes of `pytest -n`, which read it; tests change copies."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, write: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that failed
                folder.mkdir()
                write(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def drawn_root(params: Params, made_once: MadeOnce) -> Path:
    """A data root of a few synthetic people."""
    return made_once(
        "synthetic", lambda root: synthesize(params.synthetic, seed=params.seed, root=root, workers=1)
    )


@pytest.fixture(scope="session")
def prepared(params: Params, drawn_root: Path, made_once: MadeOnce) -> Path:
    """The prepared file of those people."""

    def write(folder: Path) -> None:
        path = folder / "lsp_mpii.h5"
        prepare_lsp_mpii(drawn_root, path, params=params.prepare, seed=params.seed, workers=1)

    return made_once("prepared", write) / "lsp_mpii.h5"


@pytest.fixture(scope="session")
def prepared_coco(params: Params, drawn_root: Path, made_once: MadeOnce) -> Path:
    """The prepared folder of a few images with several people."""

    def write(folder: Path) -> None:
        prepare_coco(drawn_root, folder / "coco", params=params.prepare.coco, seed=params.seed, workers=1)

    return made_once("prepared coco", write) / "coco"


@pytest.fixture(scope="session")
def people(prepared: Path) -> PersonSet:
    """The reader of the prepared file."""
    return PersonSet(prepared)


@pytest.fixture
def workspace(params: Params, prepared: Path, prepared_coco: Path, tmp_path: Path) -> Path:
    """A folder to train in, without an MLflow store."""
    return make_workspace(tmp_path, params, prepared, prepared_coco, store=False)


@pytest.fixture(scope="session")
def trained(params: Params, prepared: Path, prepared_coco: Path, made_once: MadeOnce) -> Path:
    """A workspace in which advpose was trained, as a user would, and evaluated; tests change copies."""

    def write(folder: Path) -> None:
        make_workspace(folder, params, prepared, prepared_coco)
        status, _, err = run_stage("train", "advpose", folder=folder)
        assert status == 0, err
        assert "advpose: trained" in err
        with pytest.MonkeyPatch.context() as patch:
            enter_folder(folder, patch)
            evaluate_task("advpose")

    return made_once("work space", write)
