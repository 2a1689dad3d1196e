"""CUDA recorder: what it asks of torch, in which order. No GPU is needed: a stand-in of `torch.cuda` notes the calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from milbench.errors import UsageError
from milbench.training import cuda_recorder
from milbench.training.cuda_recorder import CudaRecorder, check_cuda_graphs

GPU = torch.device("cuda")


class Stream:
    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def wait_stream(self, other: Stream) -> None:
        self.calls.append(f"{self.name} waits for {other.name}")


class Graph:
    calls: list[str]

    def register_generator_state(self, generator: str) -> None:
        self.calls.append(f"register {generator}")

    def replay(self) -> None:
        self.calls.append("replay")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    usual, Graph.calls = Stream("default", found), found

    @contextmanager
    def stream(one: Stream) -> Iterator[None]:
        found.append(f"on {one.name}")
        yield
        found.append(f"off {one.name}")

    @contextmanager
    def graph(_: Graph, *, pool: str, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        found.append(f"record into {pool} on {stream.name}, {capture_error_mode}")
        yield
        found.append("recorded")

    of_torch: dict[str, Any] = {
        "Stream": lambda device: Stream("own", found),
        "graph_pool_handle": lambda: "the pool",
        "current_stream": lambda device: usual,
        "mem_get_info": lambda device: (11, 100),
        "memory_reserved": lambda device: 40,
        "memory_allocated": lambda device: 30,
        "CUDAGraph": Graph,
        "stream": stream,
        "graph": graph,
    }
    for name, stand_in in of_torch.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return found


def test_work_of_a_session_is_on_one_stream_between_earlier_and_later_work(calls: list[str]) -> None:
    with CudaRecorder(GPU).session():
        calls.append("train")
    assert calls == ["own waits for default", "on own", "train", "off own", "default waits for own"]


def test_later_work_waits_although_training_raised(calls: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt), CudaRecorder(GPU).session():
        raise KeyboardInterrupt
    assert calls[-1] == "default waits for own"


def test_work_is_recorded_on_the_sessions_stream_and_replayed_when_asked(calls: list[str]) -> None:
    replay = CudaRecorder(GPU).record(lambda: calls.append("work"), [])
    assert calls == ["record into the pool on own, thread_local", "work", "recorded"]
    replay()
    assert calls[3:] == ["replay"]


def test_generators_are_registered_before_the_recording_begins(calls: list[str]) -> None:
    CudaRecorder(GPU).record(lambda: None, ["one", "other"])  # type: ignore[list-item]
    assert calls == ["register one", "register other", "record into the pool on own, thread_local", "recorded"]


def test_there_is_room_while_a_share_of_the_memory_is_free(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert CudaRecorder(GPU).has_room(0)
    assert CudaRecorder(GPU).has_room(11)
    assert not CudaRecorder(GPU).has_room(12), "of 21 that are free, 10 stay so"
    monkeypatch.setattr(cuda_recorder, "SPARE", 0.22)
    assert not CudaRecorder(GPU).has_room(0)


def test_graphs_are_refused_where_there_is_no_gpu() -> None:
    with pytest.raises(UsageError, match=r"--cuda-graphs needs an NVIDIA GPU, and trials would run on this CPU\."):
        check_cuda_graphs(torch.device("cpu"), wanted=True)
    check_cuda_graphs(torch.device("cpu"), wanted=False)
    check_cuda_graphs(GPU, wanted=True)
