"""torchmil 1.0.2's modules and trainer beside milbench's: the same bags, sizes and weights, in one run.

    tox -e peers -- --save

    python benchmarks/peers.py [--patches 1000 10000 50000] [--threads 2] [--save]    in an environment with torchmil
    python benchmarks/peers.py --draw                   the picture and the table again, from the saved numbers

Four methods (`peers_models.py`). First the script asserts, in float64, that both libraries give equal answers and, where
their losses are alike, equal gradients. Then it measures a training step (forward, loss, backward, torch's Adam), an
inference (eval mode, without gradients), each in turn with the other library's, and the peak memory that two steps add in
a process of their own. Last it trains each method for two epochs with validation on 40 + 10 bags in memory: torchmil's
`Trainer` with AUROC as its metric, against milbench's trainer, from fresh models to the weights of the best epoch. "Products
alone" are the matrix products and convolutions of milbench's step, inference or two epochs: what nobody can save in float32.
`--save` of all methods also writes `results/peers.csv`, and the picture and the table of docs/speed.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from arithmetic_floor import recorded, replay
from marked_table import MarkedTable
from peers_figure import OURS, PRODUCTS, THEIRS, save
from peers_models import PEERS, both, gap
from results_file import add_save_flag, publish, table
from timing import interleaved, ratio, seconds_of
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import BinaryAUROC  # type: ignore[import-not-found]
from torchmil.data import collate_fn  # type: ignore[import-not-found]
from torchmil.utils import Trainer  # type: ignore[import-not-found]

from milbench.machine.allocator import tune_allocator
from milbench.machine.peak_memory import forget_peak, peak_bytes
from milbench.training.single_model import Bags, fit
from milbench.trials.recipe import Recipe

CPU = torch.device("cpu")
LR = 1e-4
TOLERANCE = 1e-6
"""Of answers and gradients in float64, relative; torchmil computes its losses in float32."""
MOST_REPETITIONS, WIDTH = 7, 1024
EPOCHS, TRAIN_BAGS, VALIDATION_BAGS, BAG_PATCHES = 2, 40, 10, 2000
KINDS, MEMORY, TRAINING = ("step", "inference"), "memory", "training"
COLUMNS = ("method", "patches", "library", "kind", "milliseconds", "of_milbench", "mebibytes")
HERE = Path(__file__).resolve().parent
PLACE = MarkedTable("peers.py", HERE.parent / "docs" / "speed.md", HERE / "results" / "peers.csv")
PICTURE = HERE.parent / "docs" / "images" / "peers"
LONG_SECONDS = 20


def steps_of(name: str, width: int) -> dict[str, tuple[Callable[[Tensor], None], Callable[[Tensor], None]]]:
    """Training step and inference on a bag [N, D], by library."""
    ours, theirs = both(name, width)
    label = torch.ones(1)
    rates = {model: torch.optim.Adam(model.parameters(), lr=LR) for model in (ours, theirs)}

    def step(model: nn.Module, loss_of: Callable[[Tensor], Tensor], features: Tensor) -> None:
        model.train()
        rates[model].zero_grad(set_to_none=True)
        loss_of(features).backward()
        rates[model].step()

    @torch.no_grad()
    def infer(model: nn.Module, features: Tensor) -> None:
        model.eval()(features)

    def our_loss(features: Tensor) -> Tensor:
        return ours.loss(ours(features), label, label)

    def their_loss(features: Tensor) -> Tensor:
        return sum(theirs.compute_loss(label, features[None])[1].values())  # type: ignore[no-any-return]

    return {
        OURS: (lambda bag: step(ours, our_loss, bag), lambda bag: infer(ours, bag)),
        THEIRS: (lambda bag: step(theirs, their_loss, bag), lambda bag: infer(theirs, bag[None])),
    }


def timed(name: str, patches: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Rows of median milliseconds: step and inference by each library in turn, and milbench's products alone."""
    features = torch.randn(patches, WIDTH)
    pairs = steps_of(name, WIDTH)
    works = {
        (library, kind): partial(pairs[library][place], features)
        for place, kind in enumerate(KINDS)
        for library in (OURS, THEIRS)
    }
    for kind in KINDS:
        works[PRODUCTS, kind] = replay(recorded(works[OURS, kind]))
    one = sum(seconds_of(work) for work in works.values())
    repetitions = min(max(int(seconds / one), 2), MOST_REPETITIONS)
    contestants = {key: partial(seconds_of, work) for key, work in works.items()}
    found = interleaved(contestants, repetitions, warm_ups=0)
    for (library, kind), taken in found.items():
        row = {"method": name, "patches": patches, "library": library, "kind": kind}
        yield {**row, "milliseconds": median(taken) * 1e3, "of_milbench": ratio(taken, found[OURS, kind])}


def _peak(name: str, library: str, patches: int, threads: int, queue: Any) -> None:
    torch.set_num_threads(threads)
    tune_allocator(from_disk=False)
    features, step = torch.randn(patches, WIDTH), steps_of(name, WIDTH)[library][0]
    forget_peak()
    before = peak_bytes(CPU)
    for _ in range(2):
        step(features)
    queue.put((peak_bytes(CPU) - before) / 2**20)


def peak_mebibytes(name: str, library: str, patches: int, threads: int) -> float:
    """Peak memory that two steps add to bag and weights, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(name, library, patches, threads, queue))
    process.start()
    found: float = queue.get()
    process.join()
    return found


# ---- trainers ------------------------------------------------------------------------------------


def made_bags() -> tuple[list[Tensor], Tensor]:
    """Bags of both sides, and labels [S]: a fifth of the patches of a positive bag is shifted a little."""
    labels = torch.tensor([float(i % 2) for i in range(TRAIN_BAGS + VALIDATION_BAGS)])
    bags = [torch.randn(BAG_PATCHES, WIDTH) for _ in labels]
    for bag, label in zip(bags, labels, strict=True):
        bag[: BAG_PATCHES // 5] += 0.1 * label
    return bags, labels


def train_ours(name: str, bags: Sequence[Tensor], labels: Tensor) -> None:
    """Two epochs by milbench's trainer; the model is left with the weights of the best."""
    sides = [
        Bags(bags[part], labels[part, None], torch.ones_like(labels[part, None]))
        for part in (slice(0, TRAIN_BAGS), slice(TRAIN_BAGS, None))
    ]
    fit(both(name, WIDTH)[0], Recipe(epochs=EPOCHS, lr=LR, weight_decay=0), *sides, seed=1, device=CPU)


def train_theirs(name: str, bags: Sequence[Tensor], labels: Tensor) -> None:
    """Two epochs by torchmil's `Trainer`."""
    model = both(name, WIDTH)[1]
    rows = [{"X": bag, "Y": label} for bag, label in zip(bags, labels, strict=True)]
    loaders = [
        DataLoader(part, batch_size=1, shuffle=is_train, collate_fn=collate_fn)  # type: ignore[arg-type]
        for part, is_train in ((rows[:TRAIN_BAGS], True), (rows[TRAIN_BAGS:], False))
    ]
    trainer = Trainer(
        model, torch.optim.Adam(model.parameters(), lr=LR), {"auroc": BinaryAUROC()}, obj_metric="auroc",
        device="cpu", disable_pbar=True, verbose=False,
    )  # fmt: skip
    trainer.train(EPOCHS, *loaders)
    trainer.get_best_model()


def trainer_seconds(name: str, repetitions: int) -> dict[str, list[float]]:
    """Seconds of both trainers from fresh models on, in turn, and of the products alone; a long training is done once."""
    bags, labels = made_bags()
    works = {
        OURS: lambda: train_ours(name, bags, labels),
        THEIRS: lambda: train_theirs(name, bags, labels),
        PRODUCTS: products_of_training(name, bags[0]),
    }
    contestants = {library: lambda work=work: seconds_of(work) for library, work in works.items()}
    first = interleaved(contestants, 1, warm_ups=0)
    more = repetitions - 1 if first[OURS][0] < LONG_SECONDS else 0
    rest = interleaved(contestants, more, warm_ups=0)
    return {library: [*first[library], *rest[library]] for library in contestants}


def products_of_training(name: str, bag: Tensor) -> Callable[[], None]:
    """A function that does the matrix products and convolutions of milbench's two epochs, and nothing else."""
    step, infer = steps_of(name, WIDTH)[OURS]
    of_step, of_inference = (replay(recorded(lambda work=work: work(bag))) for work in (step, infer))

    def again() -> None:
        for _ in range(EPOCHS * TRAIN_BAGS):
            of_step()
        for _ in range(EPOCHS * VALIDATION_BAGS):
            of_inference()

    return again


# ---- tables --------------------------------------------------------------------------------------

STEP_HEAD = (
    "method", "patches", "step ms", "torchmil / milbench", "inference ms", "torchmil / milbench",
    "memory of a step MiB", "torchmil / milbench",
)  # fmt: skip
TRAINER_HEAD = (
    "method", "milbench s", "torchmil s", "torchmil / milbench", "products alone s", "torchmil / products alone",
)  # fmt: skip


def measured(options: argparse.Namespace) -> pd.DataFrame:
    """Rows of milliseconds and of MiB by method, patches, library and kind; trainings are those of `made_bags`."""
    rows: list[dict[str, Any]] = []
    for name in options.methods:
        for patches in options.patches:
            rows += timed(name, patches, options.seconds)
            for library in (OURS, THEIRS):
                mebibytes = peak_mebibytes(name, library, patches, options.threads)
                rows.append(
                    {"method": name, "patches": patches, "library": library, "kind": MEMORY, "mebibytes": mebibytes}
                )
            print(f"{name} at {patches:,} measured", file=sys.stderr, flush=True)
    for name in options.methods if options.trainings else ():
        rows += trained(name, options.trainings)
        print(f"{name} trained", file=sys.stderr, flush=True)
    return pd.DataFrame(rows, columns=COLUMNS)


def trained(name: str, repetitions: int) -> Iterator[dict[str, Any]]:
    """Rows of milliseconds of both trainers and of the products alone."""
    found = trainer_seconds(name, repetitions)
    for library, taken in found.items():
        row = {"method": name, "patches": BAG_PATCHES, "library": library, "kind": TRAINING}
        yield {**row, "milliseconds": median(taken) * 1e3, "of_milbench": ratio(taken, found[OURS])}


def text_of(rows: pd.DataFrame) -> str:
    """Markdown: what was measured, as tables."""
    steps, trainings = rows[rows["kind"] != TRAINING], rows[rows["kind"] == TRAINING]
    parts = [steps_table(steps)] if len(steps) else []
    if len(trainings):
        told = f"{EPOCHS} epochs with validation, {TRAIN_BAGS} + {VALIDATION_BAGS} bags of {BAG_PATCHES:,} × {WIDTH:,}:"
        parts += [told, trainings_table(trainings)]
    return "\n\n".join(parts)


def trainings_table(rows: pd.DataFrame) -> str:
    """A row per method: seconds of both trainers and of the products."""
    cells = rows.set_index(["method", "library"])

    def row(method: str) -> tuple[str, ...]:
        ours, theirs, products = (cells.loc[(method, library)] for library in (OURS, THEIRS, PRODUCTS))
        seconds = (f"{each.milliseconds / 1e3:.2f}" for each in (ours, theirs))
        of_products = theirs.of_milbench / products.of_milbench
        return method, *seconds, f"{theirs.of_milbench:.2f}", f"{products.milliseconds / 1e3:.2f}", f"{of_products:.2f}"

    return table(TRAINER_HEAD, map(row, dict.fromkeys(rows["method"])))


def steps_table(rows: pd.DataFrame) -> str:
    """A row per method and size: both steps, inferences and peaks of memory."""
    cells = rows.set_index(["method", "patches", "library", "kind"]).sort_index()

    def row(method: str, patches: int) -> tuple[str, ...]:
        ours, theirs = (cells.loc[method, patches, library] for library in (OURS, THEIRS))
        times = ((ours.milliseconds[kind], theirs.of_milbench[kind]) for kind in KINDS)
        memory = ours.mebibytes[MEMORY], theirs.mebibytes[MEMORY] / ours.mebibytes[MEMORY]
        values = (f"{value:.{digits}f}" for pair in times for value, digits in zip(pair, (1, 2), strict=True))
        return method, f"{patches:,}", *values, f"{memory[0]:.0f}", f"{memory[1]:.2f}"

    sizes = rows[["method", "patches"]].drop_duplicates()
    return table(STEP_HEAD, [row(each.method, each.patches) for each in sizes.itertuples()])


def draw(rows: pd.DataFrame) -> None:
    """The picture as PNG and SVG, and the table of the page."""
    save(rows, PICTURE)
    page = PLACE.page.read_text(encoding="utf-8")
    PLACE.page.write_text(PLACE.on(page, text_of(rows)), encoding="utf-8")


def assert_equal(name: str) -> str:
    """How far both libraries are apart, in words."""
    found = gap(name, 700, 64)
    for what, value in found._asdict().items():
        assert value is None or value < TOLERANCE, f"{name}: {what} differ by {value}"
    gradients = "" if found.gradients is None else f", gradients {found.gradients:.0e}"
    return f"{name}: answers {found.logit:.0e}{gradients}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, nargs="*", default=[1000, 10_000, 50_000])
    parser.add_argument("--methods", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="of each method and size (two rounds at least)")
    parser.add_argument("--trainings", type=int, default=3, help="repetitions of each trainer; 0 leaves them out")
    parser.add_argument("--draw", action="store_true", help="draw and write the saved numbers again; measure nothing")
    add_save_flag(parser)
    options = parser.parse_args()
    if options.draw:
        draw(pd.read_csv(PLACE.result))
        return
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    tune_allocator(from_disk=False)  # as a process of milbench that trains does; it serves both
    equal = "; ".join(assert_equal(name) for name in options.methods)
    rows = measured(options)
    if options.save and options.patches and options.trainings and options.methods == list(PEERS):
        rows.to_csv(PLACE.result, index=False, float_format="%.3f", lineterminator="\n")
        rows = pd.read_csv(PLACE.result)
        draw(rows)
    publish(options, f"Largest relative differences in float64: {equal}.\n\n{text_of(rows)}", threads=options.threads)


if __name__ == "__main__":
    main()
