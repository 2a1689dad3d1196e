"""BLAS: products of small matrices, by one thread of the library that NumPy brings.

OpenBLAS starts a thread per core. Blocks that fit into a core's cache leave them next to nothing to do, and between two blocks
they wait actively: copies of the process (`forked.py`) and other programs lose the cores to them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def never_start_blas_threads() -> None:
    """Have OpenBLAS start no threads at all, if NumPy is not imported yet and the user has not said how many there should be."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, and in copies made inside, a matrix product is computed by the thread that asks for it."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
