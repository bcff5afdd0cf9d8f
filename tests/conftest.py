"""Shared by all tests: where real data is, and small things made in a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from helpers import ROOT, make_workspace

from pose.data.person_set import PersonSet
from pose.data.prepare.coco import prepare_coco
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.synthetic import synthesize
from pose.io.schema import read_yaml
from pose.params import Params, parse_params

# Networks here are tiny: threads that wait for each other cost more than they bring, all the more on a busy
# machine.
torch.set_num_threads(1)


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
    values["single"]["input_size"] = 64
    values["tasks"]["hgpose"] |= {
        "network": {"kind": "hourglass", "stacks": 2, "modules": 1, "features": 8, "stem": [4, 8, 8]},
        "epochs": 2,
        "batch": 4,
    }
    values["multi"] |= {"input_size": 64, "held_out": 4}
    values["tasks"]["hgpose-ae"] |= {
        "network": {
            "kind": "ae",
            "stacks": 2,
            "features": 8,
            "increase": 4,
            "outputs": 36,
            "stem": [4, 8, 8],
        },
        "epochs": 2,
        "batch": 4,
    }
    for name in ("advpose", "advpose-ae"):  # beside that they are like the two above
        values["tasks"][name]["adversary"]["network"] |= {"features": 8, "stem": [4, 8, 8]}
    values["train"] |= {"val_samples": 8, "train_samples": 4, "checkpoint_every": 5, "workers": 0}
    return parse_params(values)


@pytest.fixture(scope="session")
def drawn_root(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of a few drawn people."""
    root = tmp_path_factory.mktemp("drawn")
    synthesize(params.synthetic, seed=params.seed, root=root, workers=1)
    return root


@pytest.fixture(scope="session")
def prepared(params: Params, drawn_root: Path) -> Path:
    """The prepared file of those people."""
    path = drawn_root / "prepared" / "lsp_mpii.h5"
    prepare_lsp_mpii(drawn_root, path, params=params.prepare, seed=params.seed, workers=1)
    return path


@pytest.fixture(scope="session")
def prepared_coco(params: Params, drawn_root: Path) -> Path:
    """The prepared folder of a few drawn pictures."""
    folder = drawn_root / "prepared" / "coco"
    prepare_coco(drawn_root, folder, params=params.prepare.coco, seed=params.seed, workers=1)
    return folder


@pytest.fixture(scope="session")
def people(prepared: Path) -> PersonSet:
    """Its reader."""
    return PersonSet(prepared)


@pytest.fixture
def workspace(params: Params, prepared: Path, prepared_coco: Path, tmp_path: Path) -> Path:
    """A folder with params.yaml and the prepared sets, in one process."""
    return make_workspace(tmp_path, params, prepared, prepared_coco)
