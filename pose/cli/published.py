"""Weights from and for elsewhere: `pose import-weights`, `pose export-weights`, `pose export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pose.cli.command import Commands, add_command


def add(commands: Commands) -> None:
    """Add these commands to the parser."""
    more = "Which network it is, its tensors tell. Only tensors and plain values are loaded: no code can run."
    arg = add_command(commands, "import-weights", _import, "read published weights of other projects", more)
    arg("source", type=Path, metavar="CHECKPOINT", help="a file as the other project saved it")
    arg("--out", type=Path, required=True, help="for example models/imported/hgpose.pt")
    arg("--kind", help="insist on this network, or choose it: bearpaw_hg, umich_pose_ae, ...")
    arg("--task", help="name to keep with the weights (default: hgpose or hgpose-ae)")

    more = "A published code of the same architecture reads them."
    arg = add_command(
        commands, "export-weights", _export, "write weights under another project's names", more
    )
    arg("weights", type=Path, metavar="WEIGHTS", help="models/TASK/last.pt or best.pt")
    kinds = "bearpaw_hg, roytseng_hgpose, roytseng_hgpose_ae or umich_pose_ae"
    arg("--kind", required=True, help=f"whose names: {kinds}")
    arg("--out", type=Path, required=True, help="the file to write")

    more = (
        "Normalisation and activation are inside, joints and thresholds beside; any number of images at once."
        " The file is compared with PyTorch's output before it gets its name."
    )
    arg = add_command(commands, "export", _export_network, "write a network for other runtimes", more)
    arg("weights", type=Path, metavar="WEIGHTS", help="models/TASK/last.pt or best.pt")
    arg("--to", choices=["onnx", "torch"], default="onnx", help="ONNX, or torch.export (default: onnx)")
    arg("--out", type=Path, help="the file to write (default: beside the weights, .onnx or .pt2)")


def _import(source: Path, out: Path, kind: str | None, task: str | None) -> None:
    from pose.models.published import import_file

    published = import_file(source, out, task=task, kind=kind)
    size = ", ".join(f"{name} {value}" for name, value in published.settings.items())
    print(f"{out}: {published.format.name} ({size})")


def _export(weights: Path, kind: str, out: Path) -> None:
    from pose.models.published import export_file

    export_file(weights, out, kind)
    print(f"{out}: named as in {kind}")


def _export_network(weights: Path, to: Literal["onnx", "torch"], out: Path | None) -> None:
    from pose.inference.export import export

    print(f"{export(weights, to, out)}: equal to the network of {weights}")
