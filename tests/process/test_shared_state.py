"""Whatever code of others changes in the process is put back and named."""

import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from milbench.process.generators import generators_left_as_they_were, seed_global_generators
from milbench.process.shared_state import OF_THE_SYSTEM, left_as_it_was, of_torch, read_shared

CHANGES: dict[str, Callable[[], object]] = {
    "the working folder": lambda: os.chdir("/"),
    "environment variables": lambda: os.environ.update(MILBENCH_TEST="set"),
    "signal handlers": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "Python's recursion limit": lambda: sys.setrecursionlimit(5000),
    "NumPy's treatment of floating-point errors": lambda: np.seterr(all="raise"),
    "warning filters": lambda: warnings.simplefilter("ignore"),
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's grad mode": lambda: torch.set_grad_enabled(False),
    "torch's number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "torch's anomaly mode": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "torch's precision of products": lambda: torch.set_float32_matmul_precision("medium"),
    "torch's autocast": lambda: torch.set_autocast_enabled("cpu", True),
    "cuDNN's deterministic flag": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "cuDNN's benchmark flag": lambda: setattr(torch.backends.cudnn, "benchmark", True),
}


def test_every_shared_thing_has_a_case_here() -> None:
    assert {shared.name for shared in (*OF_THE_SYSTEM, *of_torch())} == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_what_a_block_changes_is_named_and_put_back(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    everything = (*OF_THE_SYSTEM, *of_torch())
    before = read_shared(everything)
    with left_as_it_was() as moved:
        CHANGES[name]()
    assert name in [each.name for each in moved]  # some changes bring others
    assert read_shared(everything) == before


def test_a_message_tells_what_changed_from_what_to_what() -> None:
    with left_as_it_was() as moved:
        torch.set_default_dtype(torch.float64)
        os.environ["MILBENCH_TEST"] = "set"
    assert list(map(str, moved)) == [
        "torch's default dtype (torch.float32 -> torch.float64)",
        "environment variables (MILBENCH_TEST=None -> MILBENCH_TEST=set)",
    ]


def test_it_is_put_back_if_the_block_raises() -> None:
    def fail() -> None:
        torch.set_default_dtype(torch.float64)
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"), left_as_it_was():
        fail()
    assert torch.get_default_dtype() == torch.float32


def test_draws_of_the_block_are_not_seen_after_it() -> None:
    with generators_left_as_they_were():
        expected = random.random(), np.random.rand()  # noqa: NPY002
    with left_as_it_was() as moved:
        random.seed(1), np.random.seed(1)  # noqa: NPY002
    assert moved == []
    assert (random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_a_seed_and_a_use_decide_the_draws() -> None:
    def drawn(seed: int, use: int) -> tuple[float, float]:
        with generators_left_as_they_were():
            seed_global_generators(seed, use)
            return random.random(), float(np.random.rand())  # noqa: NPY002

    assert drawn(42, 0) == drawn(42, 0)
    assert len({drawn(seed, use) for seed in (0, 1, 42, 2**63 - 1) for use in (0, 1, 2)}) == 12


def test_what_torch_sets_itself_is_nobodys_change() -> None:
    """torch.func.vjp imports torch's compiler on first use, which sets the name of its folder."""
    script = """
import os, torch
from milbench.process.shared_state import left_as_it_was
with left_as_it_was() as moved:
    torch.func.vjp(torch.sin, torch.ones(2))[1](torch.ones(2))
print([each.name for each in moved if each.name != "warning filters"], "TORCHINDUCTOR_CACHE_DIR" in os.environ)
"""
    without = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, check=True, env=without)
    assert done.stdout.split() == ["[]", "True"]
