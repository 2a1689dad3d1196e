"""AMIL at the sizes of Ilse's own gated attention gives the official code's numbers: it is the same model, other sizes apart."""

import pytest
import torch
from golden_rules import Golden

from milbench_baselines.amil import AMIL

NAMES = {
    "feature_extractor_part2.0": "expert.embed.0",
    "attention_V.0": "expert.attention.tanh_branch",
    "attention_U.0": "expert.attention.sigmoid_branch",
    "attention_w": "expert.attention.score",
    "classifier.0": "head",
}


@pytest.mark.parametrize("n", [1, 2, 7, 100, 257])
@pytest.mark.parametrize(("dtype", "twin", "tolerance"), [(torch.float32, "", 1e-5), (torch.float64, "64", 1e-10)])
def test_the_official_numbers(n: int, dtype: torch.dtype, twin: str, tolerance: float) -> None:
    golden = Golden("abmil_ilse_gated")
    model = AMIL(800, 1, hidden=500, attention=128, dropout=0.0).eval()
    official = golden.state_dict()
    model.load_state_dict(
        {f"{ours}.{kind}": official[f"{name}.{kind}"] for name, ours in NAMES.items() for kind in ("weight", "bias")}
    )
    with torch.no_grad():
        output = model.to(dtype)(golden.bag(n).to(dtype))
    for ours, key in ((output.logits.sigmoid(), "y"), (output.attention, "attn"), (output.aux["slide"], "slide_feat")):
        theirs = torch.from_numpy(golden[f"{key}{twin}/{n}"]).flatten()
        torch.testing.assert_close(ours.flatten(), theirs, atol=tolerance, rtol=0)
