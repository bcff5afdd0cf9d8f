"""`pose init` lays out a project that runs with the package as a wheel installs it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import pytest
from helpers import (
    ROOT,
    clean_environment,
    noise,
    user_error,
    without_packages,
    write_fast_compiler,
    write_initial_weights,
    write_params_file,
)

from pose.cli import run
from pose.experiments.init_project import init_project
from pose.io.command import OF_TRAINING

# What `pose[train]` brings is not installed, nor is there what Windows lacks and ours imports.
SLIM = without_packages(*OF_TRAINING, "fcntl")
POSE = "from pose.cli import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a wheel built from what git tracks or would track, as pip unpacks them."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and not name.startswith("tests/") and (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(folder / "source")]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(folder / "source")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def python(program: str, *words: str, site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = clean_environment() | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(2000)  # six stages of a machine that may be busy
def test_a_project_of_an_installed_package_runs_and_runs_again_for_a_newer_one(installed, params, tmp_path):
    folder = tmp_path / "project"
    done = python(POSE, "init", "project", site=installed, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (folder / ".git").is_dir()
    values = params.model_dump()
    write_params_file(folder, values | {"train": values["train"] | {"processes": 1}})
    compiler = write_fast_compiler(tmp_path)

    def dvc(*words: str) -> str:
        environment = clean_environment() | {"PYTHONPATH": str(installed), "CXX": str(compiler), "NVCC": ""}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        command = [sys.executable, "-m", "dvc", *words]
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    dvc("repro", "train@hgpose", "build_ext")
    assert (folder / "models/hgpose/last.pt").is_file()
    assert (folder / "build/operator.json").is_file()
    assert "Running stage 'synthesize'" not in dvc("repro", "synthesize")
    newer = installed / "pose/data/synthetic/paint.py"
    newer.write_text(newer.read_text() + "\nNEWER = True\n")
    assert "Running stage 'synthesize'" in dvc("repro", "synthesize")


@pytest.mark.slow
def test_an_installed_package_predicts_without_what_only_training_needs(installed, params, tmp_path):
    weights = write_initial_weights(params, "hgpose", tmp_path)
    cv2.imwrite(str(tmp_path / "photo.png"), noise(1))
    words = ["predict", "photo.png", "--weights", str(weights)]
    done = python(SLIM + POSE, *words, site=installed, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "drawn/photo.png").is_file()
    done = python(SLIM + POSE, "report", site=installed, folder=ROOT)
    assert done.returncode == 1
    assert done.stderr == "error: jinja2: not installed; what trains needs pip install 'pose[train]'\n"


def test_only_a_new_or_empty_folder_is_laid_out(tmp_path, capsys):
    run(["init", str(tmp_path / "new")])
    assert "pose repro" in capsys.readouterr().out
    assert not [line for line in (tmp_path / "new/dvc.yaml").read_text().splitlines() if "- pose/" in line]
    with user_error(r"new: found a file or a folder with files, expected a new or empty"):
        init_project(tmp_path / "new")
    with user_error(r"^/proc/project: cannot be written"):
        init_project(Path("/proc/project"))
