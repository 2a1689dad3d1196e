"""Draws of a bootstrap: too few are refused, under the name that the user gave them."""

import pytest

from milbench.errors import UsageError
from milbench.stats.draws import FEWEST_DRAWS, refuse_few_draws


def test_fewer_draws_than_an_interval_needs_are_refused_by_name() -> None:
    refuse_few_draws(FEWEST_DRAWS, "--draws")
    with pytest.raises(UsageError, match=r"^--draws is 99\. Give 100 or more"):
        refuse_few_draws(FEWEST_DRAWS - 1, "--draws")
