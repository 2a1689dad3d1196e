"""Fewer imports: matplotlib without what a report does not need of it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DRAWS_IN_3D = "mpl_toolkits.mplot3d"


def import_little() -> None:
    """Import what a report's figures need, without 3D axes and without the lists of properties in docstrings.

    For a process that does nothing but report: in it `help` of matplotlib says less, and there is no projection "3d".
    """
    from milbench.report.figures import importable_matplotlib

    if "matplotlib.figure" not in sys.modules:
        importable_matplotlib()
        with _plain_docstrings(), _without(DRAWS_IN_3D):
            import matplotlib.backends.backend_agg
            import matplotlib.backends.backend_pdf
            import matplotlib.figure  # noqa: F401 - imported for whoever draws later


@contextmanager
def _plain_docstrings() -> Iterator[None]:
    """Inside, a class of matplotlib does not look for all its properties to describe them."""
    from matplotlib import artist

    module: Any = artist
    usual = module.kwdoc
    module.kwdoc = lambda _: ""
    try:
        yield
    finally:
        module.kwdoc = usual


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Inside, the module cannot be imported."""
    if name in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    modules[name] = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # matplotlib says that it does without
            yield
    finally:
        del modules[name]
