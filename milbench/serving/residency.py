"""Residency: how large a cohort's features are, and where they stay: on the GPU, in memory or on disk."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from statistics import fmean

import torch

from milbench.cohorts.cohort import Cohort
from milbench.machine.sizes import bytes_text
from milbench.process.memory import free_memory
from milbench.serving.read_ahead import AHEAD, MOST_AHEAD

MEMORY_SHARE = 0.4
"""Share of the memory free at start that all workers together may use if `--memory` is not given."""

GPU_SHARE = 0.8
"""Share of a GPU's free memory that is given away; the rest is for fragments and for what libraries take for themselves."""

PROCESS_BYTES = 500_000_000
"""Memory of a worker without features: resident set after training AMIL on digits (0.51 GB; torch 2.13 for CPU, Linux;
0.23 GB are torch's import, 0.17 GB milbench's, 0.08 GB what the first steps load)."""

AHEAD_SHARE = 0.125
"""Share of the room for features that bags may take which are read ahead beside the first `AHEAD`."""

SAMPLE = 50
"""Slides whose headers are read to tell a cohort's size."""


@dataclass(frozen=True)
class Residency:
    """Places of a cohort's features, for each worker.

    Attributes
    ----------
    device_bytes, host_bytes : features that may stay on the GPU and in memory, never negative.
    reason : one sentence to print.
    feature_bytes : of the whole cohort, as estimated; None = unknown.
    most_ahead, ahead_bytes : bags that may be read ahead, and room for those after the first `AHEAD`: set apart from what
        stays, or the same room if all stay.
    """

    device_bytes: int
    host_bytes: int
    reason: str
    feature_bytes: int | None = None
    most_ahead: int = AHEAD
    ahead_bytes: int = 0

    @property
    def whole_cohort_fits(self) -> bool:
        """Whether every bag stays after it was read once; as good as the estimate of the size."""
        return self.feature_bytes is not None and self.feature_bytes <= self.device_bytes + self.host_bytes


def choose_residency(
    feature_bytes: int | None,
    *,
    device: torch.device,
    workers: int,
    memory_bytes: int = 0,
    step_bytes: int = 0,
    gpu_workers: int = 0,
    bag_bytes: int = 0,
) -> Residency:
    """Places of features of `feature_bytes` (None = unknown) in each of `workers` processes.

    Parameters
    ----------
    memory_bytes : what all workers together may use of the host's memory; 0 = `MEMORY_SHARE` of what is free.
    step_bytes : what a training step needs on `device`, bags that are read ahead included.
    gpu_workers : how many of the workers share one GPU; 0 = all.
    bag_bytes : of a usual bag; 0 = unknown, and no more than `AHEAD` bags are read ahead.
    """
    host_bytes = (memory_bytes or available_bytes()) / workers - PROCESS_BYTES
    device_bytes = 0.0
    if device.type == "cuda":
        device_bytes = torch.cuda.mem_get_info(device)[0] * GPU_SHARE / (gpu_workers or workers) - step_bytes
    else:
        host_bytes -= step_bytes
    on_gpu, in_memory = max(int(device_bytes), 0), max(int(host_bytes), 0)
    size = "of unknown size" if feature_bytes is None else bytes_text(feature_bytes)
    room = f"{bytes_text(on_gpu)} on the GPU and {bytes_text(in_memory)}" if on_gpu else bytes_text(in_memory)
    fits = feature_bytes is not None and feature_bytes <= on_gpu + in_memory
    ahead_bytes = _ahead_bytes(on_gpu or in_memory, in_memory, bag_bytes, fits=fits)
    most_ahead = AHEAD + min(ahead_bytes // bag_bytes, MOST_AHEAD - AHEAD) if bag_bytes else AHEAD
    if not fits:
        on_gpu, in_memory = max(on_gpu - ahead_bytes, 0), in_memory - ahead_bytes
    each = f"each of {workers} workers" if workers > 1 else "the one worker"
    basis = f"for {each} under --memory {bytes_text(memory_bytes)}" if memory_bytes else f"free for {each}"
    reason = f"features {size}: {_where(feature_bytes, on_gpu, in_memory, most_ahead)} ({room} {basis})"
    return Residency(on_gpu, in_memory, reason, feature_bytes, most_ahead, ahead_bytes)


def available_bytes() -> int:
    """Memory that all workers together may use if `--memory` is not given."""
    return int(free_memory() * MEMORY_SHARE)


def _ahead_bytes(first: int, host_bytes: int, bag_bytes: int, *, fits: bool) -> int:
    """Bytes of bags that are read ahead beside the first `AHEAD`: a GPU holds them too, where there is one.

    If all bags stay, those ahead are bags that will stay.
    """
    room = min(first, host_bytes) if fits else int(min(first, host_bytes) * AHEAD_SHARE)
    return min(room, bag_bytes * (MOST_AHEAD - AHEAD)) if room >= bag_bytes else 0


def _where(feature_bytes: int | None, device_bytes: int, host_bytes: int, most_ahead: int) -> str:
    """Sentence on where the features stay: the GPU is filled first, then memory."""
    from_disk = f"read from disk, {AHEAD}{f' to {most_ahead}' * (most_ahead > AHEAD)} bags ahead"
    if feature_bytes is None:
        room = device_bytes + host_bytes
        return f"the first {bytes_text(room)} kept, the rest {from_disk}" if room else from_disk
    on_gpu = min(feature_bytes, device_bytes)
    in_memory = min(feature_bytes - on_gpu, host_bytes)
    places = [
        (on_gpu, "kept on the GPU"),
        (in_memory, "kept in memory"),
        (feature_bytes - on_gpu - in_memory, from_disk),
    ]
    taken = [(n_bytes, place) for n_bytes, place in places if n_bytes]
    if len(taken) < 2:
        return taken[0][1] if taken else "kept in memory"
    return ", ".join([*(f"{bytes_text(n_bytes)} {place}" for n_bytes, place in taken[:-1]), f"the rest {taken[-1][1]}"])


def feature_bytes(cohort: Cohort) -> int:
    """Bytes of all features as they are stored, from the headers of up to `SAMPLE` evenly spaced slides.

    Raises
    ------
    FeatureFileError : one of them cannot be read.
    """
    slides = cohort.slides["slide_id"].tolist()
    if cohort.header is None:
        return cohort.load(slides[0]).features.nbytes * len(slides)
    headers = [cohort.header(slide) for slide in _sampled(slides)]
    sampled = sum(header.n_patches * header.width * _itemsize(header.dtype) for header in headers)
    return round(sampled * len(slides) / len(headers))


def mean_patches(cohort: Cohort, at_most: int | None = None) -> float:
    """Patches of a bag, mean over the same slides as `feature_bytes`; a bag counts with `at_most` of them."""
    slides, most = cohort.slides["slide_id"].tolist(), at_most or inf
    if cohort.header is None:
        return min(len(cohort.load(slides[0])), most)
    return fmean(min(cohort.header(slide).n_patches, most) for slide in _sampled(slides))


def has_equal_bags(cohort: Cohort, at_most: int | None = None) -> bool:
    """Whether the same slides as those of `mean_patches` have one number of patches, counted as there."""
    slides, most = _sampled(cohort.slides["slide_id"].tolist()), at_most or inf
    sizes = (len(cohort.load(each)) if cohort.header is None else cohort.header(each).n_patches for each in slides)
    return len({min(size, most) for size in sizes}) == 1


def _sampled(slides: list[str]) -> list[str]:
    n_sample = min(len(slides), SAMPLE)
    return [slides[i * len(slides) // n_sample] for i in range(n_sample)]


def largest_bag(cohort: Cohort) -> int:
    """Patches of the largest bag, from every slide's header: 0.1 to 1 ms each. A sample would miss it.

    Raises
    ------
    FeatureFileError : one of them cannot be read.
    """
    slides = cohort.slides["slide_id"]
    if cohort.header is None:
        return len(cohort.load(slides.iloc[0]))
    return max(cohort.header(slide).n_patches for slide in slides)


def _itemsize(dtype: str) -> int:
    """Bytes of a number; `load` refuses what is no float of torch's."""
    return int(getattr(torch, dtype, torch.float32).itemsize)
