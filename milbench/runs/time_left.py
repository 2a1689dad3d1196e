"""Time left: passes that wait and run, what their trials take -> seconds until the last one ends.

Seconds per trial are those of finished trials of the same dataset and model. Until one has finished, they are those of the
forecast, multiplied by what finished trials took for every foretold second: workers share caches and memory, a probe does not.
Passes are dealt to workers as the pool deals them, because the run ends with its last pass and not with the mean of all.

Nothing here reads a clock: callers say what time it is, so that a recorded run can be replayed. Theirs may go slower than
that of the wall (`work_clock.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace
from statistics import fmean

Pair = tuple[str, str]
"""Dataset and model."""

DOUBT = 0.05
"""Share of all foretold seconds that counts as foretold right: one quick trial does not correct all others."""

WARM_UP_SECONDS = 1.5
"""That the first pass of a process takes longer than the same pass later: it reads the cohort, and torch imports parts."""

SLOWEST = 0.01
"""Seconds of the caller's clock per second of the wall, at least; a pass that seems to go slower was not followed."""

OVERRUN = 1.05
"""A pass that takes longer than it should is expected to end after so many times its age."""


@dataclass
class RunningPass:
    """A pass that a worker computes.

    Attributes
    ----------
    trials : numbers of trials of which no status came yet, by pair.
    since : when it started, in seconds of the caller's clock; of a worker that has yet to start, when it will have started.
    is_first : whether it is the first of its worker, which has to start and to warm up.
    reported : pair and seconds of its trials whose status came; None = a trial that tells nothing. They come together, so
        the others follow at once.
    """

    trials: Counter[Pair]
    since: float
    is_first: bool = False
    reported: list[tuple[Pair, float | None]] = field(default_factory=list)

    @property
    def warm_up(self) -> float:
        """Seconds that it takes beyond its trials."""
        return WARM_UP_SECONDS if self.is_first else 0.0


@dataclass
class TimeLeft:
    """What is left of a run, as its trials end.

    Parameters
    ----------
    waiting : passes that have not started, in their order: numbers of trials by pair.
    workers : passes that run at once.

    Attributes
    ----------
    seconds_of, first_of : what finished trials took, by pair; those of the first passes of workers, less their warming up, apart.
    around : seconds per trial that passes took beyond those of their trials: to write results, and to fetch the next pass.
    """

    waiting: list[Counter[Pair]]
    workers: int
    running: list[RunningPass] = field(default_factory=list)
    seconds_of: dict[Pair, list[float]] = field(default_factory=lambda: defaultdict(list))
    first_of: dict[Pair, list[float]] = field(default_factory=lambda: defaultdict(list))
    around: list[float] = field(default_factory=list)

    def begin(self, now: float, start_up: float = 0.0) -> None:
        """Let every worker take a pass; each needs `start_up` seconds to start."""
        self._fill(now + start_up, is_first=True)

    def _fill(self, now: float, *, is_first: bool = False) -> None:
        while self.waiting and len(self.running) < self.workers:
            self.running.append(RunningPass(self.waiting.pop(0), now, is_first))

    def ended(self, pair: Pair, seconds: float | None, now: float) -> None:
        """Count one ended trial of a pair.

        Parameters
        ----------
        seconds : what it took; None if it tells nothing of others, such as a trial that failed.
        """
        for each in self.running:
            each.since = min(each.since, now)  # a result is here, so workers have started
        candidates = [each for each in self.running if each.trials[pair]]
        # statuses of one pass come one after the other: go on with the pass that has begun to report, else take the oldest
        found = next((each for each in candidates if each.reported), next(iter(candidates), None))
        if found is not None:
            found.reported.append((pair, seconds))
            found.trials[pair] -= 1
            if not found.trials.total():
                self._learn_from(found, now)
        elif (skipped := next((each for each in self.waiting if each[pair]), None)) is not None:
            skipped[pair] -= 1
            if seconds is not None:
                self.seconds_of[pair].append(seconds)
        self.running = [each for each in self.running if each.trials.total()]
        self.waiting = [each for each in self.waiting if each.total()]
        self._fill(now)

    def _learn_from(self, ended: RunningPass, now: float) -> None:
        """Remember what the trials of a pass took, and what it took around them."""
        trials = [(pair, seconds) for pair, seconds in ended.reported if seconds is not None]
        whole = now - ended.since
        total = sum(seconds for _, seconds in trials)
        # a trial's seconds are those of the wall; the caller's clock may have gone slower, but never so much slower
        if total > whole > SLOWEST * total:
            trials = [(pair, seconds * whole / total) for pair, seconds in trials]
            total = whole
        if ended.is_first and total:
            warm = max(total - WARM_UP_SECONDS, total / 2) / total
            for pair, seconds in trials:
                self.first_of[pair].append(seconds * warm)
            return
        for pair, seconds in trials:
            self.seconds_of[pair].append(seconds)
        if trials and len(trials) == len(ended.reported):
            self.around.append(max(0.0, whole - total) / len(trials))

    def left(self) -> Counter[Pair]:
        """Numbers of trials that have not ended, by pair."""
        left: Counter[Pair] = Counter()
        for trials in (*(each.trials for each in self.running), *self.waiting):
            left.update(trials)
        return left

    def seconds(self, foretold: Mapping[Pair, float], now: float) -> float | None:
        """Seconds until the last pass ends; None as long as nothing is known of most trials that are left.

        The slowest models run first: their durations would count for all.
        """
        known = self.per_trial(foretold, now)
        left = self.left()
        if not known or 2 * sum(count for pair, count in left.items() if pair in known) < left.total():
            return None
        finished = [each for of in (self.seconds_of, self.first_of) for durations in of.values() for each in durations]
        others = fmean(finished or known.values())
        return self._last_end({**dict.fromkeys(left, others), **known}, now)

    def per_trial(self, foretold: Mapping[Pair, float], now: float) -> dict[Pair, float]:
        """Seconds per trial of each pair of which anything is known."""
        known, measured = self._corrected(foretold), set(self.seconds_of) | set(self.first_of)
        around = fmean(self.around) if self.around else 0.0
        for pair, durations in self.first_of.items():
            first = fmean(durations) + around
            known[pair] = fmean((first, known[pair])) if pair in known else first
        known |= {pair: fmean(durations) + around for pair, durations in self.seconds_of.items()}
        for each in self.running:  # what takes longer than foretold tells this before it has ended
            work, age = _work(each.trials, known), now - each.since - each.warm_up
            if work and age > work and not each.reported:
                known |= {pair: known[pair] * OVERRUN * age / work for pair in each.trials if pair not in measured}
        return known

    def _corrected(self, foretold: Mapping[Pair, float]) -> dict[Pair, float]:
        """The forecast times what finished trials took for every foretold second; first passes count if there are no others."""
        of = self.seconds_of if self.seconds_of.keys() & foretold.keys() else self.first_of
        both = {pair: durations for pair, durations in of.items() if pair in foretold}
        took = sum(map(sum, both.values()))
        should = sum(foretold[pair] * len(durations) for pair, durations in both.items())
        doubt = DOUBT * (should + sum(count * foretold.get(pair, 0.0) for pair, count in self.left().items()))
        correction = (took + doubt) / (should + doubt) if should else 1.0
        return {pair: seconds * correction for pair, seconds in foretold.items()}

    def _last_end(self, per_trial: Mapping[Pair, float], now: float) -> float:
        """Seconds until the last pass ends, if each worker that is free takes the next one."""
        ends = [_rest(each, per_trial, now) for each in self.running]
        ends += [0.0] * (self.workers - len(ends))
        heapify(ends)
        for waiting in self.waiting:
            heapreplace(ends, ends[0] + (_work(waiting, per_trial) or 0.0))
        return max(ends)


def passes_of_pairs(passes: Sequence[Sequence[Pair]]) -> list[Counter[Pair]]:
    """Numbers of trials by pair, of each pass."""
    return [Counter(each) for each in passes]


def _work(trials: Mapping[Pair, int], per_trial: Mapping[Pair, float]) -> float | None:
    """Seconds of one worker for trials; None if nothing is known of one of them."""
    if any(pair not in per_trial for pair in trials):
        return None
    return sum(count * per_trial[pair] for pair, count in trials.items())


def _rest(running: RunningPass, per_trial: Mapping[Pair, float], now: float) -> float:
    """Seconds until a running pass ends."""
    if running.reported:
        return 0.0
    work, age = (_work(running.trials, per_trial) or 0.0) + running.warm_up, now - running.since
    return max(work - age, (OVERRUN - 1) * age)
