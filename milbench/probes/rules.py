"""Rules: tests of which rule a model can learn: presence, several concepts, frequency, count, share.

The first three follow E. Raff and J. Holt, "Reproducibility in Multiple Instance Learning: A Case For Algorithmic Unit
Tests", NeurIPS 2023, algorithms 1 to 3, with other numbers.
"""

from __future__ import annotations

from milbench.probes.made_bags import MARKER, POISON, SECOND, MadeBag, World
from milbench.probes.probe import probe


@probe(
    title="Presence",
    yes="It finds what makes a slide positive, and does not take the absence of something else for evidence.",
    no="It does not reliably answer by the presence of the marker.",
    cheats="It learned that slides without an artefact are positive. Look for what only your negative slides have.",
)
def presence(world: World, label: int) -> MadeBag:
    """1 to 3 of 30 patches of a positive bag show a marker. Training negatives show poison, which is easier to see; at
    test time the positives show it instead.
    """
    is_poisoned = label == world.is_test
    bag = world.bag(30, {MARKER: label * world.number(1, 3), POISON: is_poisoned * world.number(1, 3)})
    return bag._replace(best=(world.highest(bag, MARKER),))


@probe(
    title="Two concepts",
    yes="It can ask for two things at once.",
    no="It cannot ask for two things at once: one of them twice looks the same to it.",
)
def both(world: World, label: int) -> MadeBag:
    """Positive bags show two concepts, each in 1 to 3 of 30 patches. Negative bags show one of the two in 2 to 6 patches,
    so that the number of special patches tells nothing.
    """
    one, other = world.number(1, 3), world.number(1, 3)
    return _of_both(world, (one, other) if label else _on_one_side(world, one + other))


@probe(
    title="False frequency",
    yes="It needs both concepts, however often one of them is there.",
    no="It does not reliably tell two concepts from many patches of one.",
    cheats="It learned how many special patches there are instead of which. A frequent tissue type can fool it.",
)
def frequency(world: World, label: int) -> MadeBag:
    """Positive bags show two concepts, each in 1 to 3 of 30 patches. Training negatives show one of them once; test
    negatives show one of them 15 to 25 times.
    """
    alone = world.number(15, 25) if world.is_test else 1
    one, other = world.number(1, 3), world.number(1, 3)
    return _of_both(world, (one, other) if label else _on_one_side(world, alone))


@probe(
    title="Count",
    yes="It can count: the number of special patches decides, whatever the size of the slide.",
    no="It cannot count: the same number in a larger slide looks like less.",
)
def count(world: World, label: int) -> MadeBag:
    """8 or 9 patches of a positive bag show the marker, and 2 or 3 of a negative bag. Bags hold 15 or 75 patches, whatever
    their label, so that the share of such patches tells little.
    """
    bag = world.bag(world.one_of((15, 75)), {MARKER: world.number(8, 9) if label else world.number(2, 3)})
    return bag._replace(best=(float(world.shows(bag, MARKER).sum()),))


@probe(
    title="Share",
    yes="It can tell which share of the slide shows something.",
    no="It cannot tell 40 % of a slide from 25 %.",
)
def share(world: World, label: int) -> MadeBag:
    """40 % of a positive bag's patches show the marker, and 25 % of a negative bag's. Bags hold 20 or 60 patches, so
    that the number of special patches tells little.
    """
    size = world.one_of((20, 60))
    bag = world.bag(size, {MARKER: size * (8 if label else 5) // 20})
    return bag._replace(best=(float(world.shows(bag, MARKER).mean()),))


def _on_one_side(world: World, number: int) -> tuple[int, int]:
    return (number, 0) if world.number(0, 1) else (0, number)


def _of_both(world: World, numbers: tuple[int, int]) -> MadeBag:
    bag = world.bag(30, {MARKER: numbers[0], SECOND: numbers[1]})
    return bag._replace(best=(min(world.highest(bag, MARKER), world.highest(bag, SECOND)),))
