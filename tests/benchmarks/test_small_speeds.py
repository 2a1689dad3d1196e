"""Benchmarks of maps and of hashing still run, on few patches and small files."""

from pathlib import Path

import content_cost
import heatmap_speed
import pytest


@pytest.mark.slow  # it draws a whole panel twice
@pytest.mark.parametrize("way", heatmap_speed.WAYS)
def test_both_ways_of_drawing_draw(way: str) -> None:
    found = heatmap_speed.measure(way, 9)
    assert found["seconds"] > 0
    assert found["peak_gb"] > 0


def test_the_reference_is_compared_with_milbench() -> None:
    found = {"milbench": [{"seconds": 2.0, "peak_gb": 0.5}], "polygons": [{"seconds": 9.0, "peak_gb": 0.25}]}
    text = heatmap_speed.report(found, 1000)
    assert "| panel of milbench heatmap | 2.00 | 0.50 |" in text
    assert text.endswith("Reference / milbench: 4.5.")


def test_hashing_is_told_for_a_cohort_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--files", "2", "--megabytes", "1", "--slides", "1000", "--save", "kept.md"]
    monkeypatch.setattr("sys.argv", ["content_cost.py", *words])
    content_cost.main()
    kept = Path("kept.md").read_text()
    assert capsys.readouterr().out.strip() in kept
    seconds = {row.split("|")[1].strip(): row.split("|")[2:4] for row in kept.splitlines() if row.startswith("| ")}
    assert set(seconds) >= {"cold", "in memory", "warm", "one thread"}
    each, all_of_them = map(float, seconds["cold"])
    assert all_of_them == pytest.approx(each * 500, abs=0.5)
