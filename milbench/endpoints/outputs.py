"""Outputs: how many logits a model is built for, and which of them answer which task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise

from milbench.endpoints.fitted import FittedEndpoint


class Outputs(int):
    """Number W of logits, which also knows the tasks that they answer.

    It is a whole number, so that `nn.Linear(width, n_outputs)` is all that most models need. T tasks have one logit
    each if all are binary; a task of C classes has C.

    Attributes
    ----------
    endpoints : one per task, in order.
    """

    endpoints: tuple[FittedEndpoint, ...]

    def __new__(cls, endpoints: Sequence[FittedEndpoint]) -> Outputs:
        number = super().__new__(cls, sum(each.width for each in endpoints))
        number.endpoints = tuple(endpoints)
        return number

    def __eq__(self, other: object) -> bool:
        """Equal numbers for other tasks are not the same: caches keep models by what they answer."""
        if isinstance(other, Outputs):
            return self.endpoints == other.endpoints
        return self.all_binary and int(self) == other

    def __hash__(self) -> int:
        return hash(int(self)) if self.all_binary else hash(self.endpoints)

    def __getnewargs__(self) -> tuple[tuple[FittedEndpoint, ...]]:  # type: ignore[override]
        return (self.endpoints,)

    @classmethod
    def of(cls, number: int) -> Outputs:
        """`number` itself, or as many binary tasks where it is a plain number."""
        return number if isinstance(number, Outputs) else cls([FittedEndpoint()] * number)

    @property
    def n_tasks(self) -> int:
        """Number T of tasks."""
        return len(self.endpoints)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of logits of each task."""
        return tuple(each.width for each in self.endpoints)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Place of each task among the logits."""
        ends = list(accumulate(self.widths, initial=0))
        return tuple(slice(start, end) for start, end in pairwise(ends))

    @property
    def maps(self) -> tuple[tuple[int, str], ...]:
        """Task and class of each heatmap: one per task (class ""), one per class of a multiclass task."""
        return tuple(
            (task, name)
            for task, each in enumerate(self.endpoints)
            for name in (each.endpoint.classes if each.kind == "multiclass" else ("",))
        )

    @cached_property
    def all_binary(self) -> bool:
        """Whether every task is binary."""
        return all(each.kind == "binary" for each in self.endpoints)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Kinds of the tasks."""
        return frozenset(each.kind for each in self.endpoints)
