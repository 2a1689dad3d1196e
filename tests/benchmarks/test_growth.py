"""The cost of a patch against the bag's size: the page, the picture, and a build that works for the script."""

from pathlib import Path

import growth
import growth_figure
import growth_worker
import pandas as pd
import pytest


def test_the_page_says_what_was_measured() -> None:
    page = growth.PLACE.page.read_text(encoding="utf-8")
    assert growth.PLACE.on(page, growth.text_of(pd.read_csv(growth.PLACE.result))) == page


def test_the_same_numbers_give_the_same_picture(tmp_path: Path) -> None:
    rows = pd.read_csv(growth.PLACE.result)
    titles = {model: model for model in rows["model"]}
    for stem in ("one", "two"):
        growth_figure.save(rows, titles, tmp_path / stem)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


@pytest.mark.parametrize("model", ["mean_pooling", growth_worker.FLOOR])
def test_a_worker_takes_steps_of_one_bag_at_a_time(model: str) -> None:
    bench = growth_worker.Bench()
    step = bench.work(model, "step", 9, 16)
    step()
    assert bench.work(model, "step", 9, 16) is step
    bench.work(model, "inference", 9, 16)()
    assert bench.work(model, "step", 10, 16) is not step


def test_what_is_slower_than_the_reference_is_named() -> None:
    def row(build: str, model: str, cpu: float) -> dict[str, object]:
        return {"build": build, "model": model, "kind": "step", "patches": 36, "cpu_milliseconds": cpu}

    rows = pd.DataFrame([row("this", "a", 2), row("reference", "a", 1), row("this", "b", 1), row("reference", "b", 1)])
    assert growth.slower(rows).endswith("a step at 36 (0.50).")
    assert growth.slower(rows[rows["build"] == "this"]) == ""
