"""Own draws: random numbers of trials that go through a model together, each of them from the trial's own generators.

Trials of one fold share their random numbers, because all see the same bags in the same steps. Trials of different folds see
other bags, so the generators of each stand elsewhere. Inside vmap torch draws from one generator only. Here, each call of
`torch.rand` and its like draws for every trial what the trial would draw alone, and vmap gets the results side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from milbench.errors import MilbenchError
from milbench.process.generators import global_generators, same_generators
from milbench.training.randomness import Randomness, generator_states

DRAWING = {torch.rand, torch.randn, torch.randint, torch.randperm}
"""Functions whose draws are a trial's own. Under vmap(randomness="error") torch refuses all others that draw."""


class OwnDraws(TorchFunctionMode):
    """Inside, P trials draw from generators of their own. When it ends without an error, they have moved on by one use.

    The code inside calls a model in a vmap over trials (randomness="error") and, if a trial has several bags, in a vmap over
    bags in it (randomness="different"). It says by `places` which trial and bag vmap is at.

    Parameters
    ----------
    randoms : of the P trials.

    Raises
    ------
    MilbenchError : something was drawn from the generators that all code of the process shares.
    """

    def __init__(self, randoms: Sequence[Randomness]) -> None:
        super().__init__()
        self.randoms, self.device = list(randoms), randoms[0].device
        self._generators: list[dict[str, torch.Generator]] = []
        self._trial: Tensor | None = None
        self._bag: tuple[Tensor, int] | None = None
        self._depth = 0

    def __enter__(self) -> OwnDraws:  # type: ignore[override]
        self._before = generator_states(self.device), global_generators()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:  # type: ignore[override]
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        if error is not None:
            return
        states, others = self._before
        is_same = all(map(torch.equal, states, generator_states(self.device)))
        if not is_same or not same_generators(others, global_generators()):
            raise MilbenchError("the model draws random numbers that trials of several folds cannot draw together.")
        for random, own in zip(self.randoms, self._generators or [{}] * len(self.randoms), strict=True):
            random.moved_to(own)

    def places(self, trial: Tensor, bag: Tensor | None = None, n_bags: int = 1) -> None:
        """Say where vmap is.

        Parameters
        ----------
        trial : int64 [], number of the trial, batched by the outer vmap.
        bag : int64 [], number of the bag, batched by the inner vmap over `n_bags`; None = there is none.
        """
        self._trial, self._bag = trial, None if bag is None else (bag, n_bags)
        self._depth = _depth()

    def generators(self) -> list[torch.Generator]:
        """Of each trial, the one that draws on the device; ready to draw."""
        return [own[self.device.type] for own in self._own_generators()]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if self._trial is None or func not in DRAWING or named.get("generator") is not None:
            return func(*args, **named)
        if _depth() != self._depth:
            raise MilbenchError(
                "the model draws inside a vmap of its own, which trials of several folds cannot do together."
            )
        bag, n_bags = self._bag or (self._trial, 0)
        draw = _Draw(func, args, named, self._own_generators(), n_bags)
        return _Drawn.apply(self._trial, bag, draw)  # type: ignore[no-untyped-call]

    def _own_generators(self) -> list[dict[str, torch.Generator]]:
        if not self._generators:
            self._generators = [random.generators() for random in self.randoms]
        return self._generators


class _Draw:
    """One call of a drawing function, for all trials and bags."""

    def __init__(
        self,
        function: Callable[..., Tensor],
        arguments: Sequence[Any],
        named: Mapping[str, Any],
        generators: Sequence[Mapping[str, torch.Generator]],
        n_bags: int,
    ) -> None:
        self.function, self.arguments, self.named = function, list(arguments), dict(named)
        self.generators, self.n_bags = generators, n_bags
        self.device = torch.device(self.named.get("device") or "cpu").type

    def all(self) -> Tensor:
        """Draws [P, *shape], or [P, B, *shape] if the trials have several bags, which draw as vmap lets them."""
        return torch.stack([self._of_trial(own[self.device]) for own in self.generators])

    def _of_trial(self, generator: torch.Generator) -> Tensor:
        if self.n_bags == 0:
            return self.function(*self.arguments, **self.named, generator=generator)
        if self.function is torch.randperm:
            each = [self.function(*self.arguments, **self.named, generator=generator) for _ in range(self.n_bags)]
            return torch.stack(each)
        arguments, named = self._for_bags()
        return self.function(*arguments, **named, generator=generator)

    def _for_bags(self) -> tuple[list[Any], dict[str, Any]]:
        """The arguments with a dimension for bags in front of the shape."""
        if "size" in self.named:
            return self.arguments, {**self.named, "size": (self.n_bags, *self.named["size"])}
        *others, last = self.arguments
        if isinstance(last, Sequence):
            return [*others, (self.n_bags, *last)], self.named
        return [(self.n_bags, *self.arguments)], self.named  # torch.rand(2, 3)


class _Drawn(torch.autograd.Function):
    """Draws of all trials and bags, as a tensor that vmap takes for one trial's and one bag's."""

    @staticmethod
    def forward(trial: Tensor, bag: Tensor, draw: _Draw) -> Tensor:
        if trial.shape != (len(draw.generators),):  # vmap has not led here, so it would not divide the result
            raise MilbenchError("the model draws where trials of several folds cannot draw together.")
        return draw.all()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        return None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, trial: Tensor, bag: Tensor, draw: _Draw) -> tuple[Tensor, int]:
        return _Drawn.apply(trial, bag, draw), 0  # type: ignore[no-untyped-call]


def _depth() -> int:
    """Number of vmaps around the caller."""
    innermost = torch._C._functorch.peek_interpreter_stack()
    return 0 if innermost is None else int(innermost.level())
