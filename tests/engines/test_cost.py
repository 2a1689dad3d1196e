"""What a trial costs: counted and measured beside the training, which must not notice."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands_for_tests import FAST, Milbench
from models_for_tests import Raises, Tiny
from outputs_for_tests import EVERY
from torch import Tensor

from milbench.engines import cost
from milbench.engines.cost import AT_PATCHES, cost_record, energy_counter, energy_limit, energy_used, multiply_adds
from milbench.models import BagOutput
from milbench.registry import load_models

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_multiply_adds_are_those_counted_by_hand() -> None:
    by_hand = AT_PATCHES * 6 * 8 + 8 * 3  # a Linear 6 -> 8 on every patch, then 8 -> 3 on their mean
    assert multiply_adds(Tiny, 6, 3, {"hidden": 8}) == by_hand


def test_four_logits_of_one_task_are_not_counted_as_four_tasks() -> None:
    m4, arguments = load_models()["m4"], {"hidden": 16, "attention": 4, "tower": 8, "experts": 2}
    of_tasks, of_classes = (multiply_adds(m4, 6, outputs, arguments) for outputs in (4, EVERY["classes"]))
    towers, gates = 3 * 16 * 8, 3 * 4 * 2 * (16 // 4)  # of three tasks more: first layer, and gate of four proxies
    mixtures = 3 * 4 * 2 * (16 // 4)
    assert of_tasks is not None
    assert of_tasks - towers - gates - mixtures == of_classes


def test_counting_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    multiply_adds(Tiny, 7, 2, {"hidden": 5})
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_model_that_meta_tensors_do_not_suit_is_counted_on_the_cpu() -> None:
    class Peeks(Tiny):
        def forward(self, features: Tensor) -> BagOutput:
            assert float(features.sum()) == 0.0  # a meta tensor has no numbers
            return super().forward(features)

    assert multiply_adds(Peeks, 6, 3, {"hidden": 8}) == multiply_adds(Tiny, 6, 3, {"hidden": 8})


def test_a_model_that_takes_no_such_bag_has_no_count() -> None:
    assert multiply_adds(Raises, 6, 1, {}) is None


def test_a_model_is_counted_once_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply_adds(Tiny, 9, 2, {"hidden": 4})
    monkeypatch.setattr(cost, "_count", None)
    assert multiply_adds(Tiny, 9, 2, {"hidden": 4}) is not None


def test_rates_follow_from_the_times() -> None:
    record = cost_record(
        multiply_adds=7, inference_seconds=np.array([0.1, 0.2, 0.9]), n_training_bags=50, n_epochs=4,
        step_seconds=2.0, train_seconds=6.0, energy_joules=None,
    )  # fmt: skip
    assert record == {
        "multiply_adds": 7, "at_patches": 1000, "inference_seconds": 0.2, "bags_per_second": 100.0,
        "seconds_per_epoch": 1.5, "energy_joules": None,
    }  # fmt: skip


def test_the_processors_energy_counter_is_read_in_joules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "RAPL", tmp_path)
    assert energy_counter(CPU) is None
    (tmp_path / "energy_uj").write_text("2500000\n")
    (tmp_path / "max_energy_range_uj").write_text("10000000\n")
    assert energy_counter(CPU) == 2.5
    assert energy_used(9.0, energy_counter(CPU), wraps_at=energy_limit(CPU)) == 3.5
    assert energy_used(1.0, energy_counter(CPU)) == 1.5


def test_an_energy_that_cannot_be_known_is_none() -> None:
    assert energy_used(None, 2.0) is None
    assert energy_used(9.0, 2.0) is None


def test_the_gpus_energy_counter_is_that_of_torchs_device(monkeypatch: pytest.MonkeyPatch) -> None:
    joules = {"GPU-second": 4000}
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=joules.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="second"))
    assert energy_counter(CUDA) == 4.0
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_counter(CUDA) is None


@pytest.mark.slow
def test_predictions_are_bit_for_bit_the_same_whether_costs_are_counted_or_not(
    milbench_here: Milbench, cohort_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", "--models", "tiny*", "--cohort", str(cohort_folder), "--folds", "0", "--workers", "1", *FAST)
    assert milbench_here(*words, "--run", "counted").returncode == 0
    monkeypatch.setattr("milbench.engines.record.multiply_adds", lambda *_: None)
    assert milbench_here(*words, "--run", "not").returncode == 0
    paths = sorted(path.relative_to(tmp_path / "counted") for path in (tmp_path / "counted").rglob("*.parquet"))
    assert paths
    assert all((tmp_path / "counted" / p).read_bytes() == (tmp_path / "not" / p).read_bytes() for p in paths)
    stored = [json.loads(path.read_text())["cost"] for path in (tmp_path / "counted" / "trials").rglob("trial.json")]
    assert {record["multiply_adds"] for record in stored} == {AT_PATCHES * 6 * 8 + 8, AT_PATCHES * 6 * 8 + 16}
    assert all(record["inference_seconds"] > 0 and record["bags_per_second"] > 0 for record in stored)
