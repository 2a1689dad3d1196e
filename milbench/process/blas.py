"""BLAS: products of small matrices, by one thread of the library that NumPy brings.

OpenBLAS starts a thread per core. Blocks that fit into a core's cache leave them next to nothing to do, and between two blocks
they wait actively: copies of the process (`forked.py`) and other programs lose the cores to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, and in copies made inside, a matrix product is computed by the thread that asks for it."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
