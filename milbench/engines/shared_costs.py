"""Shared costs: the part of a pass's seconds and joules that counts for one of its trials."""

from __future__ import annotations

from collections.abc import Sequence

from milbench.engines.prepared_group import PreparedGroup
from milbench.engines.record import Measured
from milbench.training.evaluation import Predictions


class SharedCosts:
    """Costs of a pass, shared out: each learner bears its own work, and all trials bear the rest in equal parts.

    Inside a stack, all trials bear equal parts.

    Parameters
    ----------
    started, loaded, ended : readings of one clock, in seconds, around loading and around training with prediction.
    joules : what the device used for training; None if it does not tell.
    """

    def __init__(
        self,
        prepared: Sequence[PreparedGroup],
        *,
        started: float,
        loaded: float,
        ended: float,
        joules: float | None,
    ) -> None:
        own = sum(each.own_seconds for each in prepared)
        n_trials = max(1, sum(len(each.trials) for each in prepared))
        self.load_seconds = (loaded - started) / n_trials
        self.common_seconds = max(0.0, ended - loaded - own) / n_trials
        self.joules, self.train_seconds = joules, max(ended - loaded, 1e-9)

    def of_one_trial(self, prepared: PreparedGroup, inference: Predictions) -> Measured:
        """What one trial of the group took."""
        learner, n = prepared.learner, len(prepared.trials)
        train_seconds = learner.seconds / n + self.common_seconds
        share = (prepared.own_seconds / n + self.common_seconds) / self.train_seconds
        return Measured(
            load_seconds=self.load_seconds,
            train_seconds=train_seconds,
            wall_seconds=self.load_seconds + train_seconds,
            step_seconds=learner.step_seconds / n,
            inference_seconds=inference.seconds,
            energy_joules=None if self.joules is None else self.joules * share,
            stack=prepared.n_together,
            shortage=learner.step_memory.shortage,
        )
