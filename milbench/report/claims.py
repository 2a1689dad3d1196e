"""Claims: the eight sentences of the M4 paper that a run can test, each a function of the study's stores.

How each sentence is read stands in docs/reproduce.md; the rules of judging in `milbench.report.verdicts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from milbench.errors import StoreError
from milbench.report.attention_claim import Attention, covers_more, experts_differ
from milbench.report.claim_stores import AMIL, M4, Scope, Stores, title_of
from milbench.report.published import printed_difference, published
from milbench.report.score_tables import ABLATION
from milbench.report.study_runs import PAPERS_EXPERTS, StudyRuns
from milbench.report.verdicts import Claim, Contrast, Draft, above, below, contrast, gain_of, judge, within
from milbench.stats.arms import Arm, Comparison, Estimate, mean_of

HARDLY = 0.02
"""AUROC by which two numbers of experts may differ and still "hardly matter": half of the gain that claim 1 speaks of."""


def judge_claims(
    study: StudyRuns, *, draws: int, attention: Attention | None = None, scope: Scope | None = None
) -> list[Claim]:
    """All eight claims, judged on the stores as they are now."""
    stores = Stores(study.snapshot(), scope or Scope(), draws, attention)
    return [claim(stores) for claim in CLAIMS]


# ---- the eight ------------------------------------------------------------------------------------


def best_everywhere(stores: Stores) -> Claim:
    """1: M4 has the best mean AUROC on every cohort and on average, by about four points."""
    cohorts, size = stores.scope.cohorts, stores.scope.average_gain
    average = _over_singles(stores, partial(stores.over, cohorts))
    drafts = [
        *(_best(stores, f"best in {title_of(name)}", partial(stores.mean, name), name) for name in cohorts),
        Draft("best on average", average, above(), printed_difference(2, "average", M4, stores.scope.singles)),
        Draft("by about this much on average", average, gain_of(size), size),
    ]
    return judge(1, "M4 is best on all five cohorts and on average, by about 4 points", "4.2, abstract", drafts)


def largest_gains(stores: Stores) -> Claim:
    """2: the gain over the best single-task model is largest in CRC and UCEC: six and seven points."""
    drafts = []
    for name, size in stores.scope.gains.items():
        contrasts = _over_singles(stores, partial(stores.mean, name))
        drafts.append(Draft(f"gain in {title_of(name)} of about this size", contrasts, gain_of(size), size))
    for name in stores.scope.gains:
        others = [other for other in stores.scope.cohorts if other not in stores.scope.gains]
        contrasts = [
            contrast(f"gain in {title_of(name)} − gain in {title_of(other)}", partial(_minus, stores.gain, name, other))
            for other in others
        ]
        drafts.append(Draft(f"gain in {title_of(name)} above those of the other cohorts", contrasts, above()))
    return judge(2, "The gains in CRC and UCEC are the largest: 6 and 7 points", "4.2", drafts)


def above_on_every_gene(stores: Stores) -> Claim:
    """3: in CRC and UCEC M4 is above every single-task model on every gene."""
    drafts = []
    for name in stores.scope.gains:
        text = f"above every single-task model on every gene of {title_of(name)}"
        drafts.append(Draft(text, _on_every_gene(stores, name), above()))
    return judge(3, "In CRC and UCEC M4 is above all single-task models on all ten genes", "4.2, Fig. 3", drafts)


def rare_genes_gain(stores: Stores) -> Claim:
    """4: some rarely mutated genes of GBMLGG and BRCA gain four to nine points."""
    drafts = [
        Draft(
            f"{gene} in {title_of(name)} gains about this much",
            _over_singles(stores, partial(stores.on_gene, name, gene), f", {gene}"),
            gain_of(size),
            size,
        )
        for (name, gene), size in stores.scope.gene_gains.items()
    ]
    return judge(4, "Rarely mutated genes of GBMLGG and BRCA gain 4 to 9 points", "4.2", drafts)


def each_part_adds(stores: Stores) -> Claim:
    """5: MMoE on AMIL alone is not enough; the proxies of the experts, then those of the gates, each add."""
    cohorts = stores.scope.cohorts
    amil, mmoe, proxies, m4 = ABLATION

    average = partial(stores.over, cohorts)

    def step(upper: str, lower: str) -> Contrast:
        label = f"{stores.title(upper)} − {stores.title(lower)}, average"
        return contrast(label, partial(_minus, average, upper, lower))

    alone = [_difference(stores, name, mmoe, amil) for name in cohorts]
    drafts = [
        Draft("MMoE+AMIL is not above AMIL in every cohort", alone, above(), _lowest_printed(cohorts), negated=True),
        Draft("MP-AMIL experts add", [step(proxies, mmoe)], above(), printed_difference(3, "average", proxies, [mmoe])),
        Draft("MP-Gate adds", [step(m4, proxies)], above(), printed_difference(3, "average", m4, [proxies])),
    ]
    return judge(5, "MMoE+AMIL alone is not enough; MP-AMIL experts, then MP-Gate, each add", "4.3, Table 3", drafts)


def experts_hardly_matter(stores: Stores) -> Claim:
    """6: the number of experts hardly matters, five are slightly best, and every number beats AMIL."""
    numbers, of = _by_experts(stores)
    others = [number for number in numbers if number != PAPERS_EXPERTS]

    def minus(upper: int | None, lower: int | None) -> Contrast:
        label = f"{_experts(stores, upper)} − {_experts(stores, lower)}"
        return contrast(label, lambda: of(upper).minus(of(lower)))

    pairs = [minus(upper, lower) for place, upper in enumerate(numbers) for lower in numbers[:place]]
    none = [Contrast("M4 by number of experts", why="M4 was trained with one number of experts only")]
    drafts = [
        Draft(f"any two numbers within {HARDLY}", pairs or none, within(HARDLY), shown=lambda one: -abs(one.value)),
        Draft("five experts above every other number", [minus(PAPERS_EXPERTS, n) for n in others] or none, above()),
        Draft("every number above AMIL", [minus(n, None) for n in numbers] if others else none, above()),
    ]
    return judge(6, "The number of experts hardly matters, five are slightly best, all beat AMIL", "Fig. 4a", drafts)


def ten_tasks_best(stores: Stores) -> Claim:
    """7: with more tasks M4 gains on the frequent genes up to ten tasks, then loses there and gains on rarer ones."""
    *beats, most = stores.scope.numbers
    best, fewest = beats[-1], beats[0]
    frequent, rarer = partial(_by_tasks, stores, rare=False), partial(_by_tasks, stores, rare=True)
    top = f"top {fewest}"

    def minus(upper: int, lower: int | None, on: Callable[[int | None], Estimate], where: str) -> Contrast:
        other = f"{lower} tasks" if lower else "AMIL"
        return contrast(f"{upper} tasks − {other}, {where}", lambda: on(upper).minus(on(lower)))

    rest = [number for number in stores.scope.numbers if number != best]
    drafts = [
        Draft(f"{best} tasks best on the {top} genes", [minus(best, n, frequent, top) for n in rest], above()),
        Draft(f"up to {best} tasks above AMIL there", [minus(n, None, frequent, top) for n in beats], above()),
        Draft(f"{most} tasks below AMIL there", [minus(most, None, frequent, top)], below(), shown=_largest),
        Draft(f"gain there from {fewest} to {best} tasks", [minus(best, fewest, frequent, top)], above()),
        Draft(f"loss there from {best} to {most} tasks", [minus(most, best, frequent, top)], below(), shown=_largest),
        Draft("gain of the rarer genes at that step", [minus(most, best, rarer, "rarer genes")], above()),
    ]
    text = "Ten tasks are best: frequent genes gain up to ten, then lose to rare ones"
    return judge(7, f"{text}, in {title_of(stores.scope.ladder)}", "Fig. 4b", drafts)


def attention_covers_tumour(stores: Stores) -> Claim:
    """8: M4's attention covers the tumour more consistently than AMIL's, and its experts differ from each other."""
    seen = stores.attention or Attention()
    drafts = [covers_more(seen, M4, AMIL, stores.draws), experts_differ(seen, M4, stores.draws)]
    return judge(8, "M4's attention covers tumour better than AMIL's; its experts differ", "Fig. 5", drafts)


CLAIMS: tuple[Callable[[Stores], Claim], ...] = (
    best_everywhere, largest_gains, above_on_every_gene, rare_genes_gain, each_part_adds, experts_hardly_matter,
    ten_tasks_best, attention_covers_tumour,
)  # fmt: skip


# ---- M4 against the single-task models ------------------------------------------------------------


def _best(stores: Stores, text: str, estimate: Callable[[str], Estimate], column: str) -> Draft:
    return Draft(
        text, _over_singles(stores, estimate), above(), printed_difference(2, column, M4, stores.scope.singles)
    )


def _over_singles(stores: Stores, estimate: Callable[[str], Estimate], where: str = "") -> list[Contrast]:
    """M4 against each: it is above the best where it is above all, whichever that is."""
    return [
        contrast(f"{stores.title(M4)} − {stores.title(single)}{where}", partial(_minus, estimate, M4, single))
        for single in stores.scope.singles
    ]


def _on_every_gene(stores: Stores, dataset: str) -> list[Contrast]:
    """M4 against each single-task model on each gene."""
    try:
        tasks = stores.tasks(dataset)
    except StoreError as error:
        return [Contrast("every gene", why=str(error))]
    return [one for task in tasks for one in _over_singles(stores, partial(stores.on_gene, dataset, task), f", {task}")]


def _minus(estimate: Callable[[str], Estimate], upper: str, lower: str) -> Estimate:
    return estimate(upper).minus(estimate(lower))


def _difference(stores: Stores, dataset: str, upper: str, lower: str) -> Contrast:
    label = f"{stores.title(upper)} − {stores.title(lower)}, {title_of(dataset)}"
    return contrast(label, partial(_minus, partial(stores.mean, dataset), upper, lower))


# ---- M4 by number of experts and of tasks ---------------------------------------------------------


def _by_experts(stores: Stores) -> tuple[list[int], Callable[[int | None], Estimate]]:
    """The numbers of experts in the stores, and M4's mean with each; AMIL's for None."""
    main, others = stores.study.main, stores.study.experts
    own = [(stores.study.main_experts, main)] if main else []
    runs = dict([*own, *others.items()])
    datasets = [name for name in stores.datasets if all(name in run.datasets for run in others.values())]
    arms = [Arm(_arm(number), run, M4) for number, run in sorted(runs.items())]
    arms += [Arm(_arm(None), main, AMIL)] if main else []
    compared = [Comparison(name, arms, stores.draws) for name in datasets]

    def of(number: int | None) -> Estimate:
        if not compared:
            raise StoreError("M4 by number of experts is not in the stores")
        return mean_of([one.mean(_arm(number), one.signal_tasks) for one in compared])

    return sorted(runs), of


def _arm(number: int | None) -> str:
    """Name of M4 with so many experts, of AMIL for None."""
    return AMIL if number is None else f"M4 with {number} experts"


def _experts(stores: Stores, number: int | None) -> str:
    if number is None:
        return stores.title(AMIL)
    return f"{number} expert{'' if number == 1 else 's'}"


def _by_tasks(stores: Stores, number: int | None, *, rare: bool) -> Estimate:
    """M4's mean where it learns so many tasks, AMIL's for None: on the most frequent genes, or on the rarer ones."""
    comparison = stores.ladder
    if not comparison.titles:
        raise StoreError(f"{stores.scope.ladder} is not in the stores")
    learned = {name: comparison.tasks(name) for name in comparison.titles if name != AMIL}
    by_number = {len(tasks): (name, tasks) for name, tasks in learned.items()}
    best = stores.scope.numbers[-2]
    needed = {stores.scope.numbers[0], *({best} if rare else ()), *({number} if number else ())}
    for missing in sorted(needed - by_number.keys()):
        raise StoreError(f"M4 with {missing} tasks of {stores.scope.ladder} is not in the stores")
    frequent = by_number[stores.scope.numbers[0]][1]
    tasks = [task for task in by_number[best][1] if task not in frequent] if rare else frequent
    return comparison.mean(by_number[number][0] if number else AMIL, tasks)


def _largest(one: Contrast) -> float:
    return -one.value


# ---- words and the paper's numbers ----------------------------------------------------------------


def _lowest_printed(cohorts: Sequence[str]) -> float:
    """The paper's lowest difference of MMoE+AMIL from AMIL."""
    if not set(cohorts) <= set(published()["cohort"]):
        return float("nan")
    return min(printed_difference(3, name, "mmoe_amil", ["amil"]) for name in cohorts)
