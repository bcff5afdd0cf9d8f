"""Stage `prepare_lsp_mpii`: LSP, LSPET and MPII as published -> data/prepared/lsp_mpii.h5."""

from __future__ import annotations

from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.io.command import run_stage
from pose.io.paths import PREPARED
from pose.params import load_params


def main() -> None:
    """Pack the people of LSP, LSPET and MPII, whichever are present, into one file."""
    params = load_params()
    print(prepare_lsp_mpii(params.data.root, PREPARED["lsp_mpii"], params=params.prepare, seed=params.seed))


if __name__ == "__main__":
    run_stage(main)
