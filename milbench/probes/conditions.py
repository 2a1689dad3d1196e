"""Conditions: presence of a marker under conditions that slides have: rare, larger than in training, mislabelled, with a second task."""

from __future__ import annotations

from milbench.probes.made_bags import MARKER, SECOND, WITNESS, MadeBag, World
from milbench.probes.probe import probe


@probe(
    title="Rare witness",
    yes="It finds one patch among 2,000.",
    no="It does not find one patch among 2,000.",
    sizes=(160, 60, 100),
    epochs=12,
    bags_per_step=1,
    largest=2000,
)
def rare(world: World, label: int) -> MadeBag:
    """One of 2,000 patches of a positive bag shows the witness, which is easier to see than other markers. No patch of a
    negative bag does.
    """
    bag = world.bag(2000, {WITNESS: label})
    return bag._replace(best=(world.highest(bag, WITNESS),))


@probe(
    title="Larger bags",
    yes="It keeps its answers on slides that are ten times larger than those of training.",
    no="It loses the marker on slides that are ten times larger than those of training.",
)
def size(world: World, label: int) -> MadeBag:
    """One patch of a positive bag shows the marker. Bags hold 20 patches in training and 200 at test time."""
    return _marked(world, 200 if world.is_test else 20, label)


@probe(
    title="Label noise",
    yes="It learns the rule although every fifth label is wrong.",
    no="Every fifth wrong label is too much for it.",
    flipped=0.2,
)
def noise(world: World, label: int) -> MadeBag:
    """1 to 3 of 30 patches of a positive bag show the marker. 20 % of the labels for training and validation are wrong, and
    none at test time.
    """
    return _marked(world, 30, label * world.number(1, 3))


@probe(
    title="Two tasks",
    yes="It learns two unrelated tasks together.",
    no="One of two unrelated tasks suffers when both are learned together.",
    n_tasks=2,
)
def tasks(world: World, label: int) -> MadeBag:
    """Two tasks: whether the marker is there, and whether the second concept is, each in 1 to 3 of 30 patches. The two labels
    have nothing to do with each other, and the worse task counts.
    """
    other = world.number(0, 1)
    bag = world.bag(30, {MARKER: label * world.number(1, 3), SECOND: other * world.number(1, 3)})
    return bag._replace(best=(world.highest(bag, MARKER), world.highest(bag, SECOND)), labels=(label, other))


def _marked(world: World, size: int, number: int) -> MadeBag:
    bag = world.bag(size, {MARKER: number})
    return bag._replace(best=(world.highest(bag, MARKER),))
