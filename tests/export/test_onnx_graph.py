"""An ONNX file gives the run's logits, on its own, for any number of patches; a model that cannot have one says why."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from exports_for_tests import exported, run_for_exports
from scipy.special import logit
from torch import Tensor, nn

from milbench.cohorts.scaling import FeatureScaler
from milbench.endpoints.outputs import Outputs
from milbench.export.exported import ExportedModel, load_exported
from milbench.export.onnx_graph import NoGraphError, onnx_bytes
from milbench.heatmap.trained import TrainedModel
from milbench.models import BagOutput, MILModel, build
from milbench.registry import load_models
from milbench.runs.notebook import NotebookRun

onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'milbench[onnx]'")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.slow

ALONE = """
import json, sys
sys.modules["milbench"] = sys.modules["torch"] = None  # an import of either fails
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
bags = np.load(sys.argv[2])
names = [each.name for each in session.get_outputs()]
print(json.dumps({bag: {name: v.tolist() for name, v in zip(names, session.run(None, {"features": bags[bag]}))} for bag in bags}))
"""


def alone(file: Path, bags: dict[str, np.ndarray], folder: Path) -> dict[str, dict[str, list[float]]]:
    """Outputs by bag and name, of a process that has onnxruntime and NumPy only."""
    np.savez(folder / "bags.npz", **bags)
    command = [sys.executable, "-I", "-c", ALONE, str(file), str(folder / "bags.npz")]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> NotebookRun:
    return run_for_exports(tmp_path_factory)


def model_of(cls: type[MILModel], *, width: int = 5, outputs: int = 2, seeds: tuple[int, ...] = (0,)) -> ExportedModel:
    """Untrained models as an export, with a scaler."""
    scaler = FeatureScaler("standard").fit([torch.randn(40, width, generator=torch.Generator().manual_seed(1)) * 3 + 2])
    trained = [
        TrainedModel(f"fold{seed}", build(cls, width, outputs, {}, seed=seed).eval(), [f"t{i}" for i in range(outputs)],
                     Outputs.of(outputs), scaler) for seed in seeds
    ]  # fmt: skip
    facts = {
        "tasks": [f"t{i}" for i in range(outputs)], "model": {"name": cls.info.name, "in_features": width},
        "trainings": [{"name": each.id} for each in trained],
    }  # fmt: skip
    return ExportedModel(trained, facts)


def test_without_milbench_the_file_gives_the_logits_that_the_run_stored(run: NotebookRun, tmp_path: Path) -> None:
    exported(run, tmp_path / "out", "mean_pooling", task="A", fold=1)
    facts = json.loads((tmp_path / "out" / "model.json").read_text())
    rows = run.predictions().query("model == 'mean_pooling' and fold == 1 and role == 'test' and task == 'A'")
    cohort = run.cohort()
    bags = {slide: cohort.load(slide).features.numpy() for slide in rows["slide_id"]}
    found = alone(tmp_path / "out" / "model.onnx", bags, tmp_path)
    expected = logit(rows.set_index("slide_id")["probability"].astype(float))
    logits = pd.Series({slide: values["logits"][0] for slide, values in found.items()})
    assert facts["trainings"][0]["onnx_output"] == "logits"
    np.testing.assert_allclose(logits[expected.index], expected, rtol=1e-4, atol=1e-4)


def test_the_file_of_an_ensemble_has_the_logits_of_every_training(run: NotebookRun, tmp_path: Path) -> None:
    exported(run, tmp_path / "out", "mean_pooling", task="os")
    model, features = load_exported(tmp_path / "out"), run.cohort().load(run.cohort().slides["slide_id"][5]).features
    found = alone(tmp_path / "out" / "model.onnx", {"bag": features.numpy()}, tmp_path)["bag"]
    names = [each["onnx_output"] for each in model.facts["trainings"]]
    assert names == ["logits_fold0-seed42", "logits_fold1-seed42"]
    for name, logits in zip(names, model(features), strict=True):
        np.testing.assert_allclose(found[name], logits.detach(), rtol=1e-4, atol=1e-4)


def test_exporting_twice_gives_the_same_file_and_it_names_no_place(run: NotebookRun, tmp_path: Path) -> None:
    for name in "ab":
        exported(run, tmp_path / name, "mean_pooling", task="hrd", fold=0)
    first, again = ((tmp_path / name / "model.onnx").read_bytes() for name in "ab")
    assert first == again
    assert not [word for word in (b"/site-packages", b"/milbench", b'File "', b"stack_trace") if word in first]
    graph = onnx.load_from_string(first)
    told = {each.key: each.value for each in graph.metadata_props}
    assert json.loads(told["trainings"])[0]["tasks"]["hrd"]["endpoint"]["scale"] > 0
    assert json.loads(told["cohort"])["name"] == "toy"
    assert [dim.dim_param or dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim] == ["patches", 6]
    assert not any(each.data_location == onnx.TensorProto.EXTERNAL for each in graph.graph.initializer)


@pytest.mark.parametrize("name", ["mean_pooling", "max_pooling", "amil", "dsmil", "mmoe_amil", "ilra"])
def test_these_models_have_a_graph_for_any_number_of_patches(name: str, tmp_path: Path) -> None:
    known = load_models()[name]
    model = model_of(known, outputs=2 if known.info.tasks == "multi" else 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's own are kept from users, and ours would show
        (tmp_path / "m.onnx").write_bytes(onnx_bytes(model, {}))
    bags = {str(n): torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in (1, 2, 9, 1500)}
    found = alone(tmp_path / "m.onnx", {n: bag.numpy() for n, bag in bags.items()}, tmp_path)
    for n, bag in bags.items():
        np.testing.assert_allclose(found[n]["logits"], model(bag)[0].detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["transmil", "dtfd_mil", "mmoe_mp_amil", "m4", "rrt_mil", "wikg"])
def test_models_of_squares_pseudo_bags_and_chunks_are_refused_by_name(name: str) -> None:
    with pytest.raises(NoGraphError, match=f"torch cannot export {name} for any number of patches. A model that lays"):
        onnx_bytes(model_of(load_models()[name], outputs=1), {})


class Guarded(MILModel):
    """Looks at no more than 100 patches: a branch that the exporter drops without a word."""

    info = load_models()["amil"].info

    def __init__(self, in_features: int, n_outputs: int) -> None:
        super().__init__(in_features, n_outputs)
        self.head = nn.Linear(in_features, n_outputs)

    def forward(self, features: Tensor) -> BagOutput:
        seen = features[:100] if len(features) > 100 else features
        return BagOutput(self.head(seen.amax(dim=0)), None, {})


def test_a_graph_that_answers_otherwise_than_the_model_is_no_graph() -> None:
    with pytest.raises(NoGraphError, match=r"logits differ from torch's by .* on 333 patches; 0\.0001 is allowed"):
        onnx_bytes(model_of(Guarded), {})
