"""Torch traces these models for any number of patches, which an ONNX file needs: no step of theirs asks for that number.

`test_onnx_graph.py` looks at the files themselves, and is slow.
"""

import pytest
import torch

from milbench.models import build
from milbench.registry import load_models

WITH_A_GRAPH = ("mean_pooling", "max_pooling", "amil", "dsmil", "mmoe_amil", "ilra")


@pytest.mark.parametrize("name", WITH_A_GRAPH)
def test_a_graph_that_was_traced_with_one_bag_answers_for_larger_and_smaller_ones(name: str) -> None:
    known = load_models()[name]
    model = build(known, 5, 2 if known.info.tasks == "multi" else 1, {}, seed=0).eval()
    any_number = ({0: torch.export.Dim.DYNAMIC},)
    with torch.no_grad():
        graph = torch.export.export(model, (torch.randn(50, 5),), dynamic_shapes=any_number).module()
        for n_patches in (2, 50, 3000):
            bag = torch.randn(n_patches, 5)
            assert torch.allclose(graph(bag).logits, model(bag).logits, atol=1e-5)
