"""Fisher's interval against recorded SciPy."""

import numpy as np
import pytest
from endpoint_goldens import EXACT, endpoint_golden

from milbench.metrics import pearson
from milbench.stats.fisher import fisher_interval

GOLDEN = endpoint_golden("regression")


@pytest.mark.parametrize("name", GOLDEN)
def test_the_interval_of_r_equals_the_recorded_one(name: str) -> None:
    y, p = np.array(GOLDEN[name]["true"]), np.array(GOLDEN[name]["pred"])
    _, _, low, high = GOLDEN[name]["pearson r, p, fisher low, high"]
    assert fisher_interval(pearson(y, p), len(y)) == pytest.approx((low, high), abs=EXACT, nan_ok=True)


def test_a_perfect_correlation_is_a_point() -> None:
    assert fisher_interval(1.0, 10) == (1, 1)
    assert fisher_interval(-1.0, 10) == (-1, -1)
