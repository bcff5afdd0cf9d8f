"""DVC stage: LSP, LSPET and MPII as they come -> data/prepared/lsp_mpii.h5."""

from __future__ import annotations

from pose.data.prepare_lsp_mpii import prepare_lsp_mpii
from pose.errors import run_main
from pose.params import load_params


def main() -> None:
    params = load_params()
    summary = prepare_lsp_mpii(params.data.root, "data/prepared/lsp_mpii.h5", params=params.prepare, seed=params.seed)
    print(summary)


if __name__ == "__main__":
    run_main(main)
