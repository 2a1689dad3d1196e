"""Mean and max pooling against the formula written in NumPy."""

import numpy as np
import pytest
import torch

from milbench.errors import UsageError
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling

BAG = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))


def by_hand(model: MeanPooling | MaxPooling, pool: np.ufunc) -> tuple[np.ndarray, np.ndarray]:
    """Logits of pooling the patches' logits, and of pooling their embeddings."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    h = np.maximum(BAG.numpy() @ weights["embed.0.weight"].T + weights["embed.0.bias"], 0)
    w, b = weights["head.weight"].T, weights["head.bias"]
    return pool(h @ w + b, axis=0), pool(h, axis=0) @ w + b


@pytest.mark.parametrize(("model", "pool"), [(MeanPooling, np.mean), (MaxPooling, np.max)])
def test_pooling_is_the_formula(model: type[MeanPooling | MaxPooling], pool: np.ufunc) -> None:
    for level, expected in (("instance", 0), ("embedding", 1)):
        torch.manual_seed(1)
        made = model(6, 2, hidden=5, level=level).eval()
        np.testing.assert_allclose(made(BAG).logits.detach().numpy(), by_hand(made, pool)[expected], atol=1e-6)


def test_for_the_mean_both_levels_coincide_and_for_the_maximum_they_do_not() -> None:
    for model, coincide in ((MeanPooling, True), (MaxPooling, False)):
        outputs = []
        for level in ("instance", "embedding"):
            torch.manual_seed(1)
            outputs.append(model(6, 2, hidden=5, level=level).eval()(BAG).logits)
        assert torch.allclose(*outputs, atol=1e-6) is coincide


def test_without_embedding_the_raw_features_are_classified() -> None:
    model = MaxPooling(6, 1, embedding=False).eval()
    expected = (BAG @ model.head.weight.T + model.head.bias).max()
    torch.testing.assert_close(model(BAG).logits[0], expected)


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'instance'"):
        MeanPooling(6, 1, level="instances")
