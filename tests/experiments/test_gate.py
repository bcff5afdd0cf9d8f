"""The gate of a pull request: `pose gate`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, commit_all, git, user_error

from pose.cli import run
from pose.experiments.gate import judge, read_tolerance

TOLERANCE = {"metrics/hgpose.json": {"PCKh.0.5": 3.0}}


def has_passed(old: object, new: object) -> bool:
    (verdict,) = judge({"metrics/hgpose.json": {"PCKh.0.5": {"old": old, "new": new}}}, TOLERANCE)
    return verdict.passed


def test_a_drop_beyond_the_tolerance_fails_and_nothing_else_does():
    assert has_passed(70.0, 67.0)
    assert has_passed(70.0, 90.0)
    assert has_passed(None, 60.0)
    assert not has_passed(70.0, 66.9)
    assert not has_passed(70.0, None)
    assert not has_passed(70.0, float("nan"))
    (missing,) = judge({}, TOLERANCE)
    assert not missing.passed
    assert str(missing) == "FAIL  metrics/hgpose.json PCKh.0.5: is missing"


@pytest.mark.parametrize("value", ["3", "{PCKh: -1}", "{PCKh: wide}", "{PCKh: true}", "{}"])
def test_a_tolerance_that_makes_no_sense_is_refused(value, tmp_path):
    (tmp_path / "tolerance.yaml").write_text(f"metrics/hgpose.json: {value}")
    with user_error(r"tolerance.yaml: metrics/hgpose.json: .*expected"):
        read_tolerance(tmp_path / "tolerance.yaml")


def test_the_committed_tolerance_can_be_read():
    assert read_tolerance(ROOT / ".github/tolerance.yaml")


@pytest.mark.slow
def test_the_gate_compares_the_workspace_with_a_revision(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    metrics = Path("metrics/hgpose.json")
    metrics.parent.mkdir()
    metrics.write_text(json.dumps({"PCKh": {"0.5": 70.0}}))
    Path("tolerance.yaml").write_text("metrics/hgpose.json: {PCKh.0.5: 3.0}\n")
    git("init", "-q")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    commit_all("base")
    metrics.write_text(json.dumps({"PCKh": {"0.5": 60.0}}))
    with pytest.raises(SystemExit) as error:
        run(["gate", "--tolerance", "tolerance.yaml", "--base", "HEAD"])
    assert error.value.code == 1
    line = "FAIL  metrics/hgpose.json PCKh.0.5: 70 -> 60 (-10, allowed -3)\n"
    assert capsys.readouterr().out == line
    metrics.write_text("{")  # which DVC takes for a missing one
    with user_error(r"^metrics/hgpose\.json: cannot be read as JSON"):
        run(["gate", "--tolerance", "tolerance.yaml", "--base", "HEAD"])
    metrics.unlink()
    with user_error(r"^dvc metrics diff nowhere: unknown Git revision 'nowhere'$"):
        run(["gate", "--tolerance", "tolerance.yaml", "--base", "nowhere"])
