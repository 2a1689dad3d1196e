"""Products of large matrices by MKL and by oneDNN, which are both in torch: which of the two is faster on this processor.

    python benchmarks/products.py [--threads 1 2] [--repetitions 15] [--save]

Each product is one of a block of 1,024 patches in AMIL's forward or backward. The two libraries take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import torch
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of
from torch import Tensor

import milbench_baselines  # noqa: F401 - found also where milbench is not installed
from milbench_baselines.layers import products

PATCHES, WIDTH, HIDDEN, ATTENTION = 1024, 1024, 512, 256


def work() -> dict[str, tuple[int, Callable[[], Tensor], Callable[[], Tensor]]]:
    """Multiply-adds of each product, and the product by torch's default and by oneDNN."""
    x, w, z = torch.randn(PATCHES, WIDTH), torch.randn(HIDDEN, WIDTH), torch.randn(PATCHES, HIDDEN)
    v, of_v, b = torch.randn(ATTENTION, HIDDEN), torch.randn(PATCHES, ATTENTION), torch.randn(HIDDEN)
    one = products._by_onednn
    return {
        "embedding": (x.numel() * HIDDEN, lambda: torch.addmm(b, x, w.T), lambda: one(x, w, b)),
        "gradient of its weight": (x.numel() * HIDDEN, lambda: torch.mm(z.T, x), lambda: one(z.T, x.T)),
        "branch of the attention": (z.numel() * ATTENTION, lambda: torch.mm(z, v.T), lambda: one(z, v)),
        "gradient of its rows": (z.numel() * ATTENTION, lambda: torch.mm(of_v, v), lambda: one(of_v, v.T)),
    }


def rows(threads: int, repetitions: int) -> list[tuple[str, ...]]:
    """Rows of the table for one number of threads."""
    torch.set_num_threads(threads)
    found = []
    for name, (multiply_adds, default, by_onednn) in work().items():
        torch.testing.assert_close(default(), by_onednn(), atol=1e-2, rtol=1e-4)
        seconds = interleaved(
            {"default": lambda f=default: seconds_of(f), "oneDNN": lambda f=by_onednn: seconds_of(f)},
            repetitions,
            warm_ups=3,
        )
        rates = (f"{2e-9 * multiply_adds / median(each):.0f}" for each in seconds.values())
        found.append((name, str(threads), *rates, f"{ratio(seconds['default'], seconds['oneDNN']):.2f}"))
    return found


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repetitions", type=int, default=15)
    add_save_flag(parser)
    options = parser.parse_args()
    head = ("product", "threads", "GFLOP/s, torch's default", "GFLOP/s, oneDNN", "default's seconds / oneDNN's")
    body = table(head, [row for threads in options.threads for row in rows(threads, options.repetitions)])
    chosen = "oneDNN" if products.prefers_onednn() else "torch's default"
    publish(options, f"{body}\n\nmilbench takes {chosen} on this processor.")


if __name__ == "__main__":
    main()
