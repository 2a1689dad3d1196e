"""CUDA recorder: training steps as CUDA graphs. **No GPU has run this yet**.

What it relies on, besides torch's notes on CUDA graphs:

- All work of the session is on one stream, which is not the default one. So a step that is taken as always warms up what
  its recording uses: kernels, caches, and the workspace that cuBLAS has for each stream.
- Graphs of one pool may be replayed in any order if they never run at once and none needs what another has left in the
  pool (pytorch/pytorch#166975). Steps leave their results in tensors from outside of the pool.
- A graph draws from where its generators are at the replay, and moves them on as the step would. torch registers its default
  generator of the GPU by itself, and others must be registered before the recording begins. Generators may be set between
  replays, and neither be made, set nor read while a step is recorded. Steps that draw from any others are not recorded
  (`host_reads.py`).
- Threads that read ahead pin memory meanwhile. The mode "thread_local" lets them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from milbench.errors import UsageError

SPARE = 0.1
"""Share of a GPU's memory that stays free. Features and steps take no more than four fifths of it. What graphs take is known to
the driver alone, so it is not part of the plan: the GPU is asked before each recording, which may take what its step does."""


def check_cuda_graphs(device: torch.device, *, wanted: bool) -> None:
    """Refuse CUDA graphs on other devices.

    Raises
    ------
    UsageError : they are wanted, and the device is no GPU.
    """
    if wanted and device.type != "cuda":
        raise UsageError(
            f"--cuda-graphs needs an NVIDIA GPU, and trials would run on this {device.type.upper()}. "
            "Leave --cuda-graphs out (engine.cuda_graphs), or choose another --device."
        )


class CudaRecorder:
    """Records work of one GPU as CUDA graphs, on a stream of its own and in one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def session(self) -> Iterator[None]:
        """Inside, all work of this thread is on the recorder's stream, after earlier and before later work."""
        outside = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self.stream):
                yield
        finally:
            outside.wait_stream(self.stream)

    def has_room(self, n_bytes: int) -> bool:
        """Whether so much of the GPU's memory is free, and enough besides. What torch holds ready counts as free."""
        free, total = torch.cuda.mem_get_info(self.device)
        ready = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return free + ready >= SPARE * total + n_bytes

    def record(self, work: Callable[[], None], generators: Sequence[torch.Generator]) -> Callable[[], None]:
        """Replay of `work`, to be called in the session; `generators` : of the GPU, that it draws from."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            work()
        return graph.replay
