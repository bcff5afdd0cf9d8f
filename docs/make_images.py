"""Makes the images of the documentation from the demo run: people and screenshots in docs/img.

Run after these, with a Chromium on the PATH; it reaches nothing but this machine:

    make repro plots
    .venv/bin/dvc exp run --temp -S evaluate.flip_test=false --name no-flip-test     # for `dvc exp show`
    .venv/bin/python docs/make_images.py
"""

from __future__ import annotations

import html
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import h5py
import numpy as np

from pose.data.augment import crop
from pose.data.person_set import PERSON_HEIGHT, PersonSet
from pose.inference.draw import draw_people
from pose.io.files import file_hash
from pose.io.images import encode_jpeg, read_image, write_image
from pose.io.paths import PREPARED, TaskPaths
from pose.keypoints.geometry import compose, crop_affine, invert, transform
from pose.keypoints.people import People
from pose.keypoints.skeleton import built_in
from pose.tracking.store import runs_that_wrote

COLUMNS, ROWS, SIDE, SEED = 6, 2, 256, 3
GAP = ((4, 4), (4, 4), (0, 0))  # px of white around each person
SURE = 0.35  # mean confidence from which a person is shown; the report shows where the network fails
IMAGES = Path("docs/img")
MLFLOW_DEADLINE = 60.0  # seconds until the server must answer
ASSISTANT = 410  # px at the right of MLflow's pages, for its assistant


def main() -> None:
    """All of them, in turn."""
    draw_sheet(IMAGES / "people.jpg")
    report_screenshot(IMAGES / "report.jpg")
    screenshot(Path("dvc_plots/index.html").resolve().as_uri(), IMAGES / "plots.png", 1280, 900)
    exp_show_screenshot(IMAGES / "exp-show.png")
    mlflow_screenshot(IMAGES / "mlflow.png")


def draw_sheet(path: Path) -> None:
    """Twelve people, drawn at random from those of whom the network is fairly sure."""
    people = PersonSet(PREPARED["lsp_mpii"])
    with h5py.File(TaskPaths("hgpose").predictions(".h5"), "r") as file:
        joint_NK2, score_NK, row_N = file["joint"][()], file["score"][()], file["row"][()]
    sure = np.flatnonzero((score_NK.mean(axis=1) > SURE) & (people.source_N[row_N] == "mpii"))
    chosen = np.random.default_rng(SEED).choice(sure, COLUMNS * ROWS, replace=False)
    tiles = []
    for k in chosen:
        row = int(row_N[k])
        affine = crop_affine(people.centre_N2[row], 1.3 * PERSON_HEIGHT * people.scale_N[row], SIDE)
        image, packed_affine = people.image(row)
        shown = crop(image, compose(affine, invert(packed_affine)), SIDE)
        found = People(
            transform(affine, joint_NK2[k])[None], score_NK[k][None], score_NK[k].mean(keepdims=True)
        )
        tiles.append(np.pad(draw_people(shown, found, built_in("mpii")), GAP, constant_values=255))
    path.parent.mkdir(exist_ok=True)
    rows = [np.concatenate(tiles[first : first + COLUMNS], axis=1) for first in range(0, len(tiles), COLUMNS)]
    path.write_bytes(encode_jpeg(np.concatenate(rows), 85))
    print(path)


def report_screenshot(path: Path) -> None:
    """The first screens of the report; a JPEG, for the photographs in it."""
    with tempfile.TemporaryDirectory() as folder:
        lossless = Path(folder) / "report.png"
        screenshot(Path("report/index.html").resolve().as_uri(), lossless, 1280, 1500)
        path.write_bytes(encode_jpeg(read_image(lossless), 85))


def exp_show_screenshot(path: Path) -> None:
    """The table that `dvc exp show` prints."""
    columns = "Experiment|^hgpose.PCK|^hgpose.AUC|^hgpose-ae.AP"
    command = [sys.executable, "-m", "dvc", "exp", "show", "--no-pager", "--drop", ".*", "--keep", columns]
    environment = os.environ | {"COLUMNS": "160"}
    table = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    with tempfile.NamedTemporaryFile("w", suffix=".html", encoding="utf-8") as page:
        shown = f"$ dvc exp show --drop '.*' --keep '{columns}'\n{table}"
        page.write(f"<pre style='font: 13px/1.2 monospace'>{html.escape(shown)}</pre>")
        page.flush()
        screenshot(Path(page.name).as_uri(), path, 1280, 40 + 16 * shown.count("\n"))


def mlflow_screenshot(path: Path) -> None:
    """A metric of two runs, as `mlflow ui` compares them."""
    weights = [TaskPaths(task).models / "last.pt" for task in ("hgpose", "advpose")]
    ids = [runs_that_wrote(file_hash(path))[0].info.run_id for path in weights]
    chart = {"runs": ids, "metric": "PCKh_at_0.5", "plot_metric_keys": ["PCKh_at_0.5"], "experiments": ["1"]}
    query = {key: json.dumps(value) for key, value in chart.items()}
    query |= {"x_axis": "step", "y_axis_scale": "linear", "show_point": "true", "plot_layout": "{}"}
    query |= {"deselected_curves": "[]", "last_linear_y_axis_range": "[]", "line_smoothness": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = "sqlite:///" + str(Path("mlflow.db").resolve())
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + MLFLOW_DEADLINE
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(address + "/health", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        screenshot(f"{address}/#/metric?{urlencode(query)}", path, 1200 + ASSISTANT, 680)
        write_image(path, read_image(path)[:, :-ASSISTANT])
    finally:
        server.terminate()
        server.wait()


def screenshot(url: str, path: Path, width: int, height: int) -> None:
    """What Chromium shows of a page, (height, width) pixels."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no Chromium on the PATH")
    command = [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    command += ["--virtual-time-budget=20000", f"--screenshot={path}", url]
    path.unlink(missing_ok=True)  # Chromium exits with 0 when it was too slow to write one
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    if not path.exists():
        raise SystemExit(f"{path}: Chromium wrote no screenshot of {url}")
    print(path)


if __name__ == "__main__":
    main()
