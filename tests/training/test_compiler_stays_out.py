"""torch's compiler takes a second to import. Nothing that every run does may import it."""

import subprocess
import sys

import pytest

BEGINNING = "import sys, torch\nassert 'torch._dynamo' not in sys.modules, 'torch imports it by itself'\n"
END = "\nassert 'torch._dynamo' not in sys.modules\n"

OPTIMIZERS = """
from milbench.training.optimizers import AdamByRow, AdamInOneCall, LookaheadRAdam

weights = [torch.nn.Parameter(torch.ones(3, 2)) for _ in range(3)]
optimizers = [
    LookaheadRAdam([{"params": weights[:1]}], sync_period=2),
    AdamInOneCall([{"params": weights[1:2], "weight_decay": 0.1}], 1e-3, (0.9, 0.999), decoupled=True),
    AdamByRow([{"params": weights[2:], "weight_decay": [0.1] * 3}], [1e-3] * 3, decoupled=True),
]
for weight, optimizer in zip(weights, optimizers):
    for _ in range(3):
        weight.grad = torch.ones(3, 2)
        optimizer.step()
        optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
    assert (weight < 1).all()
"""

MODELS = """
from milbench.endpoints.outputs import Outputs
from milbench.registry import load_models
from milbench.training.no_numbers import without_numbers

for name, model in load_models().items():
    with without_numbers():
        built = model(64, Outputs.of(1 if model.info.tasks == "single" else 2))
    assert all(weight.is_meta for weight in built.parameters()), name
"""


@pytest.mark.parametrize("code", [OPTIMIZERS, MODELS], ids=["optimizers", "models"])
def test_it_is_not_imported(code: str) -> None:
    ended = subprocess.run([sys.executable, "-c", BEGINNING + code + END], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
