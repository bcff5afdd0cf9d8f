"""Several processes write to one store: trainings that begin together, and experiments of DVC."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from helpers import ROOT, wait_until

from pose.tracking.store import store_uri

# A stage that is tracked, and writes to the project's root what it would end with.
STAGE = """
import json, os, psutil
from pathlib import Path
from pose.io.schema import read_yaml
from pose.tracking.base import RunInfo
from pose.tracking.mlflow import MlflowTracker
from pose.training.lock import end_with_parent
lr = read_yaml("params.yaml")["lr"]
parents = [" ".join(psutil.Process(pid).cmdline()) for pid in end_with_parent()]
Path(os.environ.get("DVC_ROOT", "."), f"parents-{lr}").write_text(json.dumps(parents))
tracker = MlflowTracker()
tracker.start(RunInfo("hgpose", {"lr": lr}, {}, False, [], Path()))
for step in range(1, 501):
    tracker.log({"step": step, "loss": lr})
tracker.finish("FINISHED")
Path("out.txt").write_text(str(lr))
"""


@pytest.mark.slow
def test_writers_that_begin_together_in_an_empty_folder_all_get_in(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    writers = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "params.yaml").write_text("lr: 0.1\n")
        command = [sys.executable, "-c", STAGE]
        writers.append(subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE))
    assert [writer.communicate(timeout=300)[1] for writer in writers] == [b"", b""]
    for number in range(2):
        run_id = (tmp_path / str(number) / "run_id").read_text()
        assert runs.curve(run_id) == [(step, 0.1) for step in range(1, 501)]


@pytest.mark.slow
def test_a_queued_experiment_writes_to_the_store_of_the_real_workspace_and_outlives_what_queued_it(
    runs, tmp_path, monkeypatch
):
    stage = "stages:\n  train:\n    cmd: python stage.py\n    params: [lr]\n    outs: [out.txt]\n"
    queue = "queue:\n\tdvc exp run -q -n queued --queue -S lr=2e-5 && dvc queue start -q && sleep 1\n"
    files = {"stage.py": STAGE, "params.yaml": "lr: 0.1\n", "dvc.yaml": stage, "Makefile": queue}
    files[".gitignore"] = "mlflow.db*\nmlruns/\nparents-*\nrun_id\n"
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.delenv("DVC_ROOT")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for who in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{who}_NAME", "test")
        monkeypatch.setenv(f"{who}_EMAIL", "test@example.org")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    for command in ("git init -q", "dvc init -q", "git add -A", "git commit -qm project", "make queue"):
        subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
    wait_until((tmp_path / "parents-2e-05").exists)

    def has_succeeded() -> bool:
        time.sleep(1)  # each look costs a second of a processor
        status = subprocess.run(["dvc", "queue", "status"], check=True, capture_output=True, text=True).stdout
        assert "Failed" not in status
        return "Success" in status

    wait_until(has_succeeded, seconds=500)
    [run] = mlflow.MlflowClient(store_uri()).search_runs(["1"])
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "2e-05"
    assert run.data.metrics["loss"] == 0.00002
    assert {"DVC_EXP_NAME": "queued", "DVC_STAGE": "train"}.items() <= run.data.tags.items()
    assert mlflow.artifacts.load_image(f"{run.info.artifact_uri}/figures/curves.png").size == (900, 350)
    parents = json.loads((tmp_path / "parents-2e-05").read_text())
    assert any("exec-run" in command for command in parents)
    assert not [command for command in parents if "queue start" in command or "make queue" in command]
