"""Gathering: bundles and runs opened side by side, each under a label that no other has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from milbench.bundles.layout import HEADER, Header
from milbench.bundles.same_question import Side
from milbench.bundles.verify import opened
from milbench.errors import UsageError
from milbench.report.searches import refuse_searches
from milbench.store.run import Run, holds_run, open_run


def labels_of(paths: Sequence[Path]) -> list[str]:
    """A label per path: its name without .zip, and where two are alike the name of the folder above too.

    >>> labels_of([Path("ann/digits"), Path("bob/digits.zip"), Path("cy.zip")])
    ['ann/digits', 'bob/digits', 'cy']
    """
    names = [_stem(path) for path in paths]
    longer = [f"{path.absolute().parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    found = [long if names.count(name) > 1 else name for name, long in zip(names, longer, strict=True)]
    if len(set(found)) < len(found):
        found = [f"{name} ({number})" for number, name in enumerate(found, start=1)]
    return found


def _stem(path: Path) -> str:
    name = path.absolute().name
    return name[: -len(".zip")] if name.lower().endswith(".zip") else name


@contextmanager
def sides_of(paths: Sequence[Path], labels: Sequence[str] = ()) -> Iterator[list[Side]]:
    """The runs in bundles and run folders, ready to be compared.

    Raises
    ------
    StoreError : one of them cannot be read.
    UsageError : there are fewer than two, a name twice, or another number of labels.
    """
    if len(paths) < 2:
        raise UsageError("a comparison needs two bundles or runs. Name both: milbench compare A B")
    if labels and (len(labels) != len(paths) or len(set(labels)) < len(labels)):
        raise UsageError(
            f"--labels names {len(set(labels))} different label(s) for {len(paths)} bundles. Give one for each."
        )
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("the same bundle was named twice. Name each once.")
    with ExitStack() as stack:
        found = [stack.enter_context(_opened(path)) for path in paths]
        refuse_searches([run for _, run in found])
        yield [
            Side(label, run, header.salt if header else "")
            for label, (header, run) in zip(labels or labels_of(paths), found, strict=True)
        ]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Header | None, Run]]:
    """What a bundle says of itself, and its run; nothing and the run of a run folder."""
    if path.is_dir() and holds_run(path) and not (path / HEADER).is_file():
        yield None, open_run(path).snapshot()
        return
    with opened(path) as (_, header, run):
        yield header, run
