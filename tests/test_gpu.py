"""What only a GPU can show: the same results as elsewhere, repeatable to the bit, in the memory that there is."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints_for_tests import RECIPES as RESUMED
from checkpoints_for_tests import bits, stopped_after
from commands_for_tests import FAST, Milbench
from folds_for_tests import learners_of
from graphs_for_tests import NEED_THE_CPU, VALIDATIONS_NEED_THE_CPU
from predictions_for_tests import predictions
from stacks_for_tests import (
    N_MEMBERS,
    OURS,
    RECIPES,
    SLIDES,
    TRAIN,
    VALIDATION,
    InMemory,
    in_float32,
    labels,
    learner,
    losses,
    model_of,
    probabilities,
    trained,
)
from studies_for_tests import results

from milbench.bag import Bag
from milbench.engines.checkpoint import load_checkpoint
from milbench.layout import Patches
from milbench.registry import load_models
from milbench.serving.feature_store import FeatureStore
from milbench.training.cuda_recorder import CudaRecorder
from milbench.training.fold_stack import FoldStack
from milbench.training.learner import Learner
from milbench.training.precision import float32_products
from milbench.training.step_graphs import StepGraphs, graphs_record
from milbench.training.trainer import train
from milbench.trials.recipe import Recipe

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

GPU = torch.device("cuda")
BRIEF = Recipe(lr=0.01, epochs=2)


@pytest.fixture(autouse=True)
def _as_workers_do() -> Iterator[None]:
    former = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = former
    torch.cuda.empty_cache()


# ---- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("recipe", ["one bag per step", "five bags per step"])
def test_a_stacked_trial_ends_where_it_would_alone_dropout_included(name: str, recipe: str) -> None:
    start = model_of(name)
    (together,) = trained(learner(range(N_MEMBERS), start, RECIPES[recipe], device=GPU))
    said = probabilities(together, range(N_MEMBERS))
    for member in range(N_MEMBERS):
        (alone,) = trained(learner([member], start, RECIPES[recipe], device=GPU))
        np.testing.assert_allclose(said[member], probabilities(alone, [member])[0], atol=1e-6)
    assert np.abs(said[0] - said[1]).max() > 1e-4, "the members learnt different labels"


@pytest.mark.parametrize("name", OURS)
def test_a_gpu_learns_what_a_cpu_learns(name: str) -> None:
    """Without what is drawn on the device: dropout, and DTFD-MIL's pseudo-bags."""
    rates = dict.fromkeys(("dropout", "attention_dropout", "tower_dropout"), 0.0)
    start = model_of(name, **rates, pseudo_bags=1, total_instances=1)
    said = [
        probabilities(trained(learner(range(N_MEMBERS), start, BRIEF, device=device))[0], range(N_MEMBERS))
        for device in (GPU, torch.device("cpu"))
    ]
    np.testing.assert_allclose(said[0], said[1], atol=1e-6)


@pytest.mark.parametrize("name", ["mmoe_amil", "mmoe_mp_amil", "m4"])
def test_experts_side_by_side_on_a_gpu_learn_what_they_learn_one_by_one_on_a_cpu(name: str) -> None:
    """On bags that a CPU takes expert by expert."""
    rates = dict.fromkeys(("dropout", "attention_dropout", "tower_dropout"), 0.0)
    start, ends = model_of(name, **rates), []
    for device in (GPU, torch.device("cpu")):
        features = InMemory(device)
        generator = torch.Generator().manual_seed(4)
        for slide, bag in features.bags.items():
            features.bags[slide] = torch.randn(300, bag.shape[1], generator=generator).double().to(device)
        (each,) = trained(learner([0], start, BRIEF, device=device), features=features)
        assert each.error is None, each.error
        ends.append(losses(each.progress[0]))
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-9)


class Bags:
    """Float32 bags of several hundred patches, so that kernels work in many blocks."""

    def __init__(self, width: int = 128, n_patches: int = 900) -> None:
        generator = torch.Generator().manual_seed(3)
        self.bags = {
            slide: torch.randn(n_patches + 50 * (i % 3), width, generator=generator).to(GPU)
            for i, slide in enumerate((*TRAIN, *VALIDATION))
        }

    def in_order(self, slide_ids: tuple[str, ...]) -> Iterator[tuple[str, Patches]]:
        yield from ((slide, Patches(self.bags[slide])) for slide in slide_ids)


def learnt(name: str, bags: Bags, *, precision: str = "float32") -> Learner:
    """A stack of the model at half its usual width, trained on `bags`."""
    cls = load_models()[name]
    torch.manual_seed(1)
    known = cls.__init__.__kwdefaults__ or {}
    width = next(iter(bags.bags.values())).shape[1]
    start = cls(width, 4 if cls.info.tasks == "multi" else 1, **({"hidden": 256} if "hidden" in known else {}))
    sides = [in_float32(labels(range(N_MEMBERS), slides, start.n_tasks)) for slides in (TRAIN, VALIDATION)]
    models = [copy.deepcopy(start) for _ in range(N_MEMBERS)]
    each = Learner(models, BRIEF, *sides, seed=7, device=GPU, precision=precision)
    with float32_products(precision):
        train([each], (*TRAIN, *VALIDATION), bags, seed=7)
    return each


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_the_same_seed_gives_the_same_bits(name: str, precision: str) -> None:
    bags = Bags()
    first, second = (learnt(name, bags, precision=precision) for _ in range(2))
    assert first.error is None, first.error
    assert bits(first) == bits(second)


@pytest.mark.parametrize("name", ["amil", "dtfd_mil", "m4", "transmil"])
@pytest.mark.parametrize("recipe", RESUMED.values(), ids=list(RESUMED))
def test_a_resumed_training_ends_with_the_same_bits(tmp_path: Path, name: str, recipe: Recipe) -> None:
    start, path, members = model_of(name), tmp_path / "checkpoint.safetensors", range(N_MEMBERS)
    whole = learner(members, start, recipe, device=GPU)
    trained(whole)
    stopped_after(learner(members, start, recipe, device=GPU), 3, path, "mine")
    resumed = learner(members, start, recipe, device=GPU)
    torch.randn(100, device=GPU)  # whatever else the process draws
    assert load_checkpoint(resumed, path, "mine")
    trained(resumed)
    assert bits(resumed) == bits(whole)


REPLAYED = Recipe(lr=0.01, epochs=4)


def assert_replayed(told: dict[str, object] | None, name: str, steps: str = "replayed_steps") -> None:
    """That trial.json says so of whatever a graph of this model can hold."""
    assert told is not None
    assert (told["why_not_more"] == "") == (name not in {**NEED_THE_CPU, **VALIDATIONS_NEED_THE_CPU}), told
    assert (told[steps] == 0) == (name in NEED_THE_CPU), told
    assert (told["replayed_evaluations"] == 0) == (name in VALIDATIONS_NEED_THE_CPU), told


@pytest.mark.parametrize("members", [range(1), range(N_MEMBERS)], ids=["alone", "stacked"])
@pytest.mark.parametrize("name", OURS)
def test_a_training_whose_steps_are_replayed_ends_with_the_same_bits(name: str, members: range) -> None:
    """Dropout included: a graph draws from where the trial's generator is."""
    start, ends = model_of(name), []
    for graphs in (None, StepGraphs(CudaRecorder(GPU))):
        each = learner(members, start, REPLAYED, device=GPU)
        train([each], SLIDES, InMemory(GPU), seed=7, graphs=graphs)
        assert each.error is None, each.error
        ends.append(bits(each))
    assert ends[0] == ends[1]
    assert_replayed(graphs_record(each.weights), name)


@pytest.mark.parametrize(
    "name", ["m4", "mmoe_amil", "mmoe_mp_amil", "shared_bottom_amil", "barspoon", "transmil", "dtfd_mil"]
)
def test_folds_whose_steps_are_replayed_end_with_the_same_bits(name: str) -> None:
    """Dropout included: a graph draws from where the generator of each fold is."""
    start, ends = model_of(name), []
    for graphs in (None, StepGraphs(CudaRecorder(GPU))):
        learners = learners_of(start, REPLAYED, device=GPU)
        stack = FoldStack(learners)
        train(learners, SLIDES, InMemory(GPU), seed=7, stacks=[stack], graphs=graphs)
        assert [each.error for each in learners] == [None] * len(learners)
        ends.append([bits(each) for each in learners])
    assert ends[0] == ends[1]
    assert_replayed(graphs_record(learners[0].weights, stack.replays), name, steps="replayed_steps_of_folds")


def test_a_stack_that_loses_trials_is_replayed_with_the_same_bits() -> None:
    start, recipe = model_of("dsmil", dropout=0.3), Recipe(lr=0.02, epochs=12, patience=1, select_by="val_loss")
    ends = []
    for graphs in (None, StepGraphs(CudaRecorder(GPU))):
        each = learner(range(N_MEMBERS), start, recipe, device=GPU)
        train([each], SLIDES, InMemory(GPU), seed=7, graphs=graphs)
        assert each.error is None, each.error
        ends.append(bits(each))
    assert ends[0] == ends[1]


def test_models_of_one_pass_replay_their_steps_beside_each_other() -> None:
    """Their graphs share one pool of memory, and the places of the bags."""
    starts, recipe = [model_of(name) for name in ("m4", "mmoe_amil", "amil")], REPLAYED
    members = ([0], [0], range(N_MEMBERS))
    alone = [learner(own, start, recipe, device=GPU) for own, start in zip(members, starts, strict=True)]
    for each in alone:
        train([each], SLIDES, InMemory(GPU), seed=7)
    together = [learner(own, start, recipe, device=GPU) for own, start in zip(members, starts, strict=True)]
    train(together, SLIDES, InMemory(GPU), seed=7, graphs=StepGraphs(CudaRecorder(GPU)))
    assert [bits(each) for each in together] == [bits(each) for each in alone]


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["on the GPU", "in memory", "nowhere"])
def test_features_come_as_they_were_loaded_wherever_they_stay(kept: str) -> None:
    slides = [f"s{i}" for i in range(12)]
    bags = {slide: torch.randn(3000 + 100 * i, 256).half() for i, slide in enumerate(slides)}
    some = sum(bag.nbytes for bag in bags.values()) // 3
    store = FeatureStore(
        lambda slide: Bag(bags[slide].clone(), slide),
        device=GPU,
        device_bytes=some if kept == "on the GPU" else 0,
        host_bytes=some if kept != "nowhere" else 0,
    )
    for _ in range(3):
        for slide, patches in store.in_order(slides):
            features = patches.features
            assert features.device.type == "cuda"
            noise = torch.randn(2000, 2000, device=GPU) @ torch.randn(2000, 2000, device=GPU)  # keeps the GPU behind
            assert torch.equal(features.cpu(), bags[slide]), "overtaken by the next bag"
            del noise
    assert bool(store.near.kept) == (kept == "on the GPU")
    assert bool(store.host.kept) == (kept != "nowhere")


def test_a_step_that_the_gpu_has_no_room_for_is_tried_again_smaller() -> None:
    bags = Bags(width=256, n_patches=20_000)
    torch.cuda.reset_peak_memory_stats()
    resident = torch.cuda.memory_allocated()
    plain = learnt("amil", bags)
    needed = torch.cuda.max_memory_allocated() - resident
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(GPU).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((resident + 0.6 * needed) / total)
        tight = learnt("amil", bags)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tight.error is None, tight.error
    assert "after memory ran out" in tight.step_memory.shortage
    for one, other in zip(plain.progress, tight.progress, strict=True):
        np.testing.assert_allclose(losses(one), losses(other), rtol=0.02)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_on_a_gpu_twice_gives_the_same_bytes_and_says_where(
    milbench: Milbench, cohort_folder: Path, tmp_path: Path
) -> None:
    words = ("run", "--models", "amil", "m4", "--folds", "0", "1", "--cohort", str(cohort_folder), *FAST)
    for name, more in (("first", ()), ("second", ()), ("placed", ("--gpus", "all", "--per-gpu", "2"))):
        result = milbench(*words, "--run", name, *more)
        assert result.returncode == 0, result.stderr
        assert "kept on the GPU" in result.stdout
    assert results(tmp_path / "first") == results(tmp_path / "second") == results(tmp_path / "placed")
    infos = [json.loads(path.read_text()) for path in (tmp_path / "first").glob("trials/**/trial.json")]
    assert {info["device"] for info in infos} == {torch.cuda.get_device_name()}
    assert {info["stack"] for info in infos if info["model"] == "amil"} == {2}
    assert all(0 < info["peak_bytes"] < 10**9 for info in infos)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_precisions_of_a_gpu_are_close_to_float32(
    milbench: Milbench, cohort_folder: Path, tmp_path: Path, precision: str
) -> None:
    words = ("run", "--models", "amil", "m4", "--folds", "0", "--cohort", str(cohort_folder), *FAST)
    for name in ("float32", precision):
        result = milbench(*words, "--run", name, "--precision", name)
        assert result.returncode == 0, result.stderr
    rounded, exact = (predictions(tmp_path / name)["probability"] for name in (precision, "float32"))
    assert np.abs(rounded - exact).mean() < 0.03
    assert not np.array_equal(rounded, exact), "the products were not rounded"
