"""The embedded data: synthetic people, in the layouts in which the real sets are published.

So the readers of the real sets are exercised by it. Every image comes from
`numpy.random.default_rng([seed, set, index])`: it is the same for any number of processes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pose.data.synthetic.coco import write_coco
from pose.data.synthetic.files import drawing_pool
from pose.data.synthetic.lsp import write_lsp, write_lspet
from pose.data.synthetic.mpii import write_mpii
from pose.io.errors import UserError
from pose.io.files import atomic_folder, writing
from pose.params import SyntheticParams


def synthesize(params: SyntheticParams, *, seed: int, root: str | Path, workers: int | None = None) -> None:
    """Write `LSP`, `LSPET`, `mpii` and `coco` under the folder `root`, each atomically.

    workers: processes that draw; None means one per core. A set of no people is not written.
    """
    lsp, mpii, coco = params.lsp, params.mpii, params.coco
    if lsp.train != lsp.test:
        raise UserError(
            f"synthetic.lsp: found train {lsp.train} and test {lsp.test}, expected equal numbers"
            " (the test people of LSP are the second half of its images)"
        )
    sets = {
        "LSP": (2 * lsp.train, partial(write_lsp, people=2 * lsp.train, size=params.size)),
        "LSPET": (params.lspet, partial(write_lspet, people=params.lspet, size=params.size)),
        "mpii": (mpii.train + mpii.validation, partial(write_mpii, **mpii.model_dump())),
        "coco": (coco.train + coco.validation, partial(write_coco, **coco.model_dump())),
    }
    with writing(Path(root)):
        Path(root).mkdir(parents=True, exist_ok=True)
    with drawing_pool(workers) as pool:
        for name, (count, write) in sets.items():
            if count:
                with atomic_folder(Path(root) / name) as folder:
                    write(folder, seed=seed, pool=pool)
