"""`pose app`."""

from __future__ import annotations

from pathlib import Path

from pose.cli.command import Commands, add_command
from pose.io.command import port


def add(commands: Commands) -> None:
    """Add this command to the parser."""
    more = (
        "Images and videos are dropped on the page or taken with a camera; drawn copies and joints are"
        " downloaded from it. It is served to this machine alone. Needs pip install 'pose[app]'."
    )
    arg = add_command(commands, "app", _app, "a page in your browser that finds people", more)
    arg("weights", type=Path, metavar="WEIGHTS", help="models/TASK/last.pt or best.pt")
    arg("--port", type=port, default=7860, help="of the page's address (default: 7860)")
    arg("--device", help="cpu, cuda or cuda:0 ... (default: a GPU where there is one)")


def _app(weights: Path, port: int, device: str | None) -> None:
    from pose.inference.app import serve
    from pose.inference.predictor import Predictor

    serve(Predictor.load(weights, device), port)
