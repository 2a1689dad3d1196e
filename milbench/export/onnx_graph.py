"""ONNX graph: raw features in, logits out, for any number of patches; or the reason why a model has none.

torch's exporter may drop a branch on the number of patches without a word. So every graph is run beside torch, on bags
smaller and far larger than the one that it was traced with, and counts only if both agree.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from milbench.errors import MilbenchError
from milbench.export.exported import ExportedModel

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""Of the extra `onnx`."""

INPUT, OUTPUT = "features", "logits"

TRACED = 50
"""Patches of the bag that the graph is traced with."""

CHECKED = (1, 2, 7, TRACED, 333, 2000)
"""Patches of the bags that it is compared on."""

TOLERANCE = 1e-4
"""Largest difference of a logit, relative where the logit is above 1."""

MOST_BYTES = 1_900_000_000
"""Of the weights: a protobuf file ends at 2 GiB, and beyond it weights would lie in a file of their own."""


class NoGraphError(MilbenchError):
    """A model that has no ONNX graph; the message is the reason."""


def output_names(facts: Mapping[str, Any]) -> list[str]:
    """Names of the graph's outputs, the logits of one training each."""
    names = [training["name"] for training in facts["trainings"]]
    return [OUTPUT] if len(names) == 1 else [f"{OUTPUT}_{name}" for name in names]


def onnx_bytes(model: ExportedModel, told: Mapping[str, str]) -> bytes:
    """The checked graph as a file's content; the same model makes the same bytes.

    Parameters
    ----------
    told : text for the file's metadata, by key.

    Raises
    ------
    NoGraphError : a package is missing, the model does not allow it, or the graph answers otherwise than the model.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise NoGraphError(f"Not installed: {', '.join(missing)}. To have one, pip install 'milbench[onnx]'")
    if sum(weight.numel() * weight.element_size() for weight in model.parameters()) > MOST_BYTES:
        raise NoGraphError("the weights are larger than an ONNX file can be, 2 GB")
    if model.trainings[0].model.needs_coords:  # type: ignore[union-attr]
        raise NoGraphError("the model takes the places of the patches beside their features")
    graph = _traced(model)
    _refuse_fixed_size(graph, model)
    _without_places(graph)
    for key, value in told.items():
        graph.metadata_props.add(key=key, value=value)
    content: bytes = graph.SerializeToString(deterministic=True)
    _refuse_other_answers(content, model)
    return content


def _traced(model: ExportedModel) -> Any:
    """The graph as torch exports it, an onnx.ModelProto."""
    bag = example_bags(model, (TRACED,))[0]
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model, (bag,), dynamo=True, external_data=False, verbose=False,
                input_names=[INPUT], output_names=output_names(model.facts),
                dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            )  # fmt: skip
    except Exception as error:
        raise NoGraphError(_reason(model, error)) from error
    return program.model_proto  # type: ignore[union-attr]


def _reason(model: ExportedModel, error: BaseException) -> str:
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    said = next((line.strip(" -") for line in str(first).splitlines()[::-1] if line.strip()), "")
    return (
        f"torch cannot export {model.facts['model']['name']} for any number of patches. A model that lays its patches on a "
        f"square or deals them into groups computes with that number outside the graph ({type(first).__name__}: {said})"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings about its own parts and about packages that no model here needs."""
    former = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)


def _refuse_fixed_size(graph: Any, model: ExportedModel) -> None:
    """NoGraphError if the graph takes one number of patches alone."""
    shape = graph.graph.input[0].type.tensor_type.shape
    if len(graph.graph.input) != 1 or not shape.dim[0].dim_param:
        raise NoGraphError(
            f"torch exports {model.facts['model']['name']} for {TRACED} patches alone, the number that it was traced with"
        )
    shape.dim[0].dim_param = "patches"


def _without_places(graph: Any) -> None:
    """Take out what the exporter notes of files and lines on this machine."""
    parts = [graph.graph, *graph.functions]
    while parts:
        part = parts.pop()
        for message in (part, *part.node, *getattr(part, "initializer", ()), *part.value_info):
            message.ClearField("doc_string")
            message.ClearField("metadata_props")
        for side in (getattr(part, "input", ()), getattr(part, "output", ())):
            for value in side:
                if not isinstance(value, str):
                    value.ClearField("metadata_props")
        parts += [found for node in part.node for found in _inner(node)]
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")


def _inner(node: Any) -> list[Any]:
    """Graphs inside a node, such as the branches of an If."""
    return [graph for found in node.attribute for graph in (found.g, *found.graphs) if graph.node]


def _refuse_other_answers(content: bytes, model: ExportedModel) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    for bag in example_bags(model, CHECKED):
        with torch.no_grad():
            expected = model(bag)
        try:
            found = [torch.from_numpy(values) for values in session.run(None, {INPUT: bag.numpy()})]
        except Exception as error:
            raise NoGraphError(f"the graph fails on {len(bag)} patches ({str(error).splitlines()[0][:200]})") from error
        worst = max(_difference(own, other) for own, other in zip(expected, found, strict=True))
        if not worst <= TOLERANCE:
            raise NoGraphError(
                f"the graph's logits differ from torch's by {worst:.2g} on {len(bag)} patches; {TOLERANCE:g} is allowed"
            )


def _difference(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return float("inf")
    return float(((expected - found).abs() / expected.abs().clamp(min=1)).max())


def example_bags(model: ExportedModel, sizes: tuple[int, ...]) -> list[Tensor]:
    """Random features [N, D], spread as those of the first training's slides if its scaler tells."""
    drawn, scaler = torch.Generator().manual_seed(0), model.trainings[0].scaler
    width = model.facts["model"]["in_features"]
    bags = [torch.randn(size, width, generator=drawn) for size in sizes]
    if scaler.offset is None or scaler.scale is None:  # type: ignore[union-attr]
        return bags
    return [bag / scaler.scale + scaler.offset for bag in bags]  # type: ignore[union-attr,operator]


def metadata(facts: Mapping[str, Any]) -> dict[str, str]:
    """What an ONNX file says of itself: enough to turn its logits into answers if model.json is lost."""
    names = ("tasks", "combined", "thresholds", "cohort", "versions")
    told = {name: json.dumps(facts[name], ensure_ascii=False) for name in names}
    trainings = [
        {"name": each["name"], "output": each["onnx_output"], "tasks": each["tasks"]} for each in facts["trainings"]
    ]
    return {
        "model": facts["model"]["constructor"],
        "input": facts["input"]["features"],
        **told,
        "trainings": json.dumps(trainings, ensure_ascii=False),
    }
