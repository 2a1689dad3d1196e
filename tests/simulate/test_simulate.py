"""Simulated cohorts: the same seed makes the same bytes, the truth agrees with the files, the oracle with Monte Carlo."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from commands_for_tests import FAST, Milbench
from places import SHARED

from milbench.cohorts.cohort import folder_cohort
from milbench.errors import LabelTableError, StoreError, UsageError
from milbench.metrics import auroc
from milbench.simulate.design import PRESETS, UCEC, Design, make_design
from milbench.simulate.oracle import state_oracle
from milbench.simulate.tissue import apart, grow_tissue, side_by_side
from milbench.simulate.write import simulate, write_cohort

LABELS = SHARED / "data/tcga_labels"


def small(preset: str = "witness", **settings: object) -> Design:
    return make_design(preset, [("slides", 12), ("patches", 16), *settings.items()])


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(preset: str, tmp_path: Path) -> None:
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_cohort(simulate(small(preset), seed), tmp_path / folder)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    slide = "features/slide-00000.h5"
    assert content(tmp_path / "a")[slide] != content(tmp_path / "c")[slide]


@pytest.mark.parametrize("preset", ["shared", "kinds", "tcga-like"])
def test_cohorts_of_one_world_have_the_same_signals_and_other_patients(preset: str) -> None:
    one, two = simulate(small(preset), 3), simulate(small(preset), 4, world=3)
    for own, theirs in zip(one.directions.tasks, two.directions.tasks, strict=True):
        np.testing.assert_array_equal(own, theirs)
    np.testing.assert_array_equal(one.directions.tumour, two.directions.tumour)
    np.testing.assert_array_equal(one.oracle.carrier, two.oracle.carrier)
    assert [known.best for known in one.optima.values()] == [known.best for known in two.optima.values()]
    for column in ("slide_id", "patient_id", "site"):
        assert not set(one.labels.slides[column]) & set(two.labels.slides[column])
    assert not np.array_equal(one.carriers, two.carriers)


def test_the_world_of_its_own_seed_changes_no_byte_and_another_is_told(tmp_path: Path) -> None:
    write_cohort(simulate(small(), 3), tmp_path / "a")
    write_cohort(simulate(small(), 3, world=3), tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    write_cohort(simulate(small(), 3, world=5), tmp_path / "c")
    assert json.loads((tmp_path / "c/truth.json").read_text())["world_seed"] == 5
    with pytest.raises(UsageError, match="another design, seed, world"):
        write_cohort(simulate(small(), 3, world=6), tmp_path / "c")


def test_a_given_table_keeps_its_names_in_another_world(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("case_id,slide_id,A\np,s,1\nq,t,0\n")
    found = simulate(make_design("witness", [("slides", 0)]), 1, tmp_path / "labels.csv", world=0)
    assert list(found.labels.slides["slide_id"]) == ["s", "t"]


def test_a_slide_made_alone_is_the_slide_of_the_cohort(tmp_path: Path) -> None:
    write_cohort(simulate(small(), 0), tmp_path)
    tissue, slide = simulate(small(), 0).slide(7)
    with h5py.File(tmp_path / "features/slide-00007.h5") as file:
        np.testing.assert_array_equal(file["features"][()], slide.features)
        np.testing.assert_array_equal(file["coords"][()], tissue.coords())
        np.testing.assert_array_equal(file["instance_labels"][()], slide.truth)


def test_deleted_slides_come_back_and_the_others_are_kept(tmp_path: Path) -> None:
    simulation = simulate(small(), 0)
    write_cohort(simulation, tmp_path)
    before = content(tmp_path)
    for name in ("features/slide-00002.h5", "features/slide-00011.h5", "cohort.yaml"):
        (tmp_path / name).unlink()
    kept = tmp_path / "features/slide-00000.h5"
    written_at = kept.stat().st_mtime_ns
    written = write_cohort(simulation, tmp_path)
    assert (written.made, written.kept) == (2, 10)
    assert content(tmp_path) == before
    assert kept.stat().st_mtime_ns == written_at


@pytest.mark.parametrize(("design", "seed"), [(small(strengths=9), 0), (small(), 1)])
def test_a_folder_of_another_design_or_seed_is_refused(design: Design, seed: int, tmp_path: Path) -> None:
    write_cohort(simulate(small(), 0), tmp_path)
    before = content(tmp_path)
    with pytest.raises(UsageError, match="another design"):
        write_cohort(simulate(design, seed), tmp_path)
    assert content(tmp_path) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"no truth\.json"):
        write_cohort(simulate(small(), 0), tmp_path)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_files_hold_what_readers_expect(preset: str, tmp_path: Path) -> None:
    design = small(preset, slides=4)
    write_cohort(simulate(design, 0), tmp_path)
    cohort = folder_cohort(tmp_path)
    assert cohort.in_features == design.width
    assert cohort.tasks == design.tasks
    for slide_id in cohort.slides["slide_id"]:
        bag = cohort.load(slide_id)
        values = bag.features.numpy()
        assert np.abs(values).max() <= 1
        assert values.dtype == np.float16
        assert bag.patch_size == 512
        assert bag.coords is not None
        assert len({tuple(place) for place in bag.coords.tolist()}) == len(bag)


@pytest.mark.parametrize("signal", ["witness", "diffuse", "layout"])
def test_only_carriers_have_marked_patches_and_as_many_as_stated(signal: str) -> None:
    simulation = simulate(small(signals=signal, patches=64, patches_sd=0, witness_shares=0.125), 0)
    expected = 64 if signal == "diffuse" else 8
    for index in range(12):
        tissue, slide = simulation.slide(index)
        np.testing.assert_array_equal(slide.truth.sum(axis=0), expected * simulation.carriers[index])
        if signal == "witness":
            assert not slide.truth[~tissue.tumour].any()


def test_carriers_are_as_frequent_as_stated_and_agree_within_a_patient() -> None:
    simulation = simulate(replace(PRESETS["shared"].design, slides=20_000), 0)
    labels, tasks = simulation.labels.slides, list(simulation.labels.tasks)
    positive = labels[tasks].to_numpy() == 1
    assert simulation.carriers[positive].mean() == pytest.approx(0.65, abs=0.01)
    assert simulation.carriers[~positive].mean() == pytest.approx(0.20, abs=0.01)
    shown = pd.DataFrame(simulation.carriers, columns=tasks).groupby(labels["patient_id"].to_numpy())
    assert (shown.nunique() == 1).all(axis=None)


def test_synthetic_labels_have_the_stated_prevalence_and_the_signs_of_ucec() -> None:
    table = simulate(replace(PRESETS["shared"].design, slides=5_000), 0).labels
    for task, (prevalence, _) in UCEC.items():
        assert table.slides[task].mean() == pytest.approx(prevalence, abs=0.02)
    phi = table.slides[list(UCEC)].corr()
    assert phi.loc["KMT2B", "ZFHX3"] == pytest.approx(0.33, abs=0.08)  # in TCGA 0.49: one factor cannot hold all
    assert phi.loc["PTEN", "TP53"] == pytest.approx(-0.38, abs=0.08)  # in TCGA -0.54
    assert np.mean(phi.to_numpy()[~np.eye(10, dtype=bool)]) == pytest.approx(0.135, abs=0.04)


def test_the_oracle_is_what_many_draws_give() -> None:
    """The joint score is computed here by Bayes' rule slide by slide, not by summing over outcomes."""
    rng = np.random.default_rng(0)
    population = rng.random((6, 4)) < 0.5
    population[0], population[1] = True, False
    labels = population[rng.integers(6, size=30_000)]
    carriers = rng.random(labels.shape) < np.where(labels, 0.7, 0.2)
    likelihood = np.where(
        population, np.where(carriers[:, None], 0.7, 0.3), np.where(carriers[:, None], 0.2, 0.8)
    ).prod(axis=2)
    posterior = likelihood @ population / likelihood.sum(axis=1, keepdims=True)
    oracle = state_oracle(population, labels.astype(float), carriers, penetrance=0.7, leak=0.2)
    np.testing.assert_allclose(oracle.carrier, 0.75)
    np.testing.assert_allclose(oracle.here, 0.75, atol=0.01)
    drawn = [auroc(labels[:, task].astype(float), posterior[:, task]) for task in range(4)]
    np.testing.assert_allclose(oracle.joint, drawn, atol=0.01)
    assert (oracle.joint >= oracle.carrier - 1e-12).all()


def test_without_signal_the_oracle_is_a_coin_and_carriers_ignore_labels() -> None:
    simulation = simulate(replace(PRESETS["null"].design, slides=20_000), 0)
    np.testing.assert_allclose(simulation.oracle.joint, 0.5)
    np.testing.assert_allclose(simulation.oracle.here, 0.5, atol=0.02)


def test_site_effects_move_every_patch_of_a_site_alike() -> None:
    """Means of slides of one site lie closer than those of different sites only with `site_sd`."""
    ratios = []
    for site_sd in (0.0, 2.0):
        simulation = simulate(small("null", slides=40, sites=2, site_sd=site_sd), 0)
        means = np.stack([simulation.slide(index)[1].features.mean(axis=0) for index in range(40)]).astype(float)
        first = (simulation.labels.slides["site"] == "site-00").to_numpy()
        between = np.linalg.norm(means[first].mean(axis=0) - means[~first].mean(axis=0))
        ratios.append(between / means[first].std(axis=0).mean())
    assert ratios[1] > 5 * ratios[0]


def test_layout_moves_as_many_patches_without_the_phenotype_but_apart() -> None:
    cells = np.stack(np.divmod(np.arange(64), 8), axis=1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        together, scattered = cells[side_by_side(cells, 9, rng)], cells[apart(cells, 9, rng)]
        assert len(together) == len(scattered) == 9
        distance = np.abs(scattered[:, None] - scattered).max(axis=-1) + 9 * np.eye(9)
        assert (distance <= 1).sum() <= 4  # the last of nine may find no room
        near = np.abs(together[:, None] - together).max(axis=-1) + 9 * np.eye(9)
        assert (near.min(axis=1) == 1).all()


def test_a_raster_is_a_full_square_in_reading_order() -> None:
    tissue = grow_tissue(make_design("neighbourhood"), np.random.default_rng(0))
    rows, columns = np.divmod(np.arange(64), 8)
    np.testing.assert_array_equal(tissue.cells, np.stack([columns, rows], axis=1))


def test_tumour_is_coherent() -> None:
    """Most tumour patches have tumour to their right; at random it would be the tumour's share, 0.45."""
    shares = []
    for seed in range(10):
        tissue = grow_tissue(make_design("witness", [("patches", 256)]), np.random.default_rng(seed))
        is_tumour = {tuple(cell): bool(flag) for cell, flag in zip(tissue.cells, tissue.tumour, strict=True)}
        right = [is_tumour[x + 1, y] for (x, y), flag in is_tumour.items() if flag and (x + 1, y) in is_tumour]
        shares.append(np.mean(right))
    assert np.mean(shares) > 0.75


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (("strenght", 3), "Did you mean 'strengths'"),
        (("tumour_share", 0), "nowhere to lie"),
        (("burden", float("inf")), "burden is inf; expected numbers from -1,000 to 1,000"),
        (("strengths", [1e6]), "strengths is"),
        (("slides", 10**12), "slides is 1000000000000; expected 0 to 1,000,000"),
        (("patches_sd", 1000), "patches_sd is 1000"),
        (("leak", 2), "leak is 2"),
        (("width", "wide"), "expected a value of type int"),
        (("dtype", "float8"), "float16"),
        (("latent", 99), "above width"),
    ],
)
def test_a_mistyped_setting_is_named(assignment: tuple[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_design("witness", [assignment])


def test_lists_must_fit_the_tasks() -> None:
    with pytest.raises(UsageError, match="2 values for 3 tasks"):
        simulate(small(strengths=[1, 2]), 0)


def test_a_mistyped_signal_is_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'witness'"):
        simulate(small(signals="witnes"), 0)


def test_a_layout_without_room_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot stand apart"):
        simulate(small("neighbourhood", witness_shares=0.5), 0)


def test_a_slide_that_would_leave_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("case_id,slide_id,X\na,../x,1\nb,y,0\n")
    with pytest.raises(LabelTableError, match="cannot name a feature file"):
        simulate(small(slides=0), 0, tmp_path / "labels.csv")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_cohort(simulate(small(), 0), tmp_path / "out")


def test_a_given_table_keeps_its_ids_labels_and_blanks(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "case_id,slide_id,X,Y\nTCGA-AB-1,s.1,1,0\nTCGA-AB-2,s.2,,1\nTCGA-CD-3,s.3,0,1\n"
    )
    design = small(slides=0, sharing=0.5)
    write_cohort(simulate(design, 0, tmp_path / "labels.csv"), tmp_path / "out")
    assert (tmp_path / "out/labels.csv").read_text() == (tmp_path / "labels.csv").read_text()
    sites = pd.read_csv(tmp_path / "out/carriers.csv")["site"]
    assert list(sites) == ["AB", "AB", "CD"]


@pytest.mark.realdata
@pytest.mark.skipif(not LABELS.exists(), reason="the label tables are not beside the checkout")
def test_the_real_co_mutation_lifts_the_joint_oracle_in_ucec_and_hardly_in_brca() -> None:
    """Measured before by cross-validated regression on drawn carriers: 0.726 to 0.797, and 0.715 to 0.725."""
    gains = {}
    for name in ("ucec", "brca"):
        oracle = simulate(make_design("shared", [("slides", 0)]), 0, LABELS / f"all_{name}.csv").oracle
        gains[name] = float(oracle.joint.mean() - oracle.carrier.mean())
    assert gains["ucec"] > 0.06
    assert gains["brca"] < 0.04


def test_the_command_makes_a_cohort_that_a_run_takes(milbench_here: Milbench, tmp_path: Path) -> None:
    made = milbench_here(
        "data", "simulate", "witness", "--out", "toy", "--slides", "60", "--set", "patches=16", "width=8"
    )
    assert made.returncode == 0, made.stderr
    assert "60 slides (60 made, 0 there before)" in made.stdout
    assert "0.900" in made.stdout
    truth = json.loads((tmp_path / "toy/truth.json").read_text())
    assert truth["oracle_auc"]["carrier"]["macro"] == 0.9
    assert truth["design"]["width"] == 8
    run = milbench_here("run", "--cohort", "toy", "--models", "amil", "--folds", "0", "--workers", "1", *FAST)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_command_says_what_is_wrong(milbench_here: Milbench, tmp_path: Path) -> None:
    for words, message in (
        (["wittness"], "Did you mean 'witness'"),
        (["witness", "--set", "width"], "key=value"),
        (["witness", "--seed", "-1"], "0 or more"),
        (["witness", "--world-seed", "-1"], "--world-seed is -1"),
        (["witness", "--slides", "0"], "--labels or --slides"),
        (["witness", "--labels", "nowhere.csv"], "nowhere.csv"),
    ):
        result = milbench_here("data", "simulate", *words, "--out", "toy")
        assert result.returncode == 2, result.stdout
        assert message in result.stderr
    assert not (tmp_path / "toy").exists()


def test_a_slide_that_would_not_fit_into_memory_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a slide may have [\d,]+ values .*, more than the 100,000,000 that fit"):
        make_design("witness", [("patches", 10**6), ("width", 1000)])


def test_a_number_in_the_writing_of_science_is_a_number() -> None:
    """YAML takes 1e-1 for a word."""
    assert make_design("witness", [("patient_sd", "1e-1")]).patient_sd == 0.1


def test_a_damaged_slide_is_told_by_name_when_a_cohort_is_made_again(tmp_path: Path) -> None:
    simulation = simulate(small(), 0)
    write_cohort(simulation, tmp_path / "out")
    (tmp_path / "out" / "features" / "slide-00002.h5").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"slide-00002\.h5 is no slide of this cohort, or damaged\. Delete it"):
        write_cohort(simulation, tmp_path / "out")


def test_a_truth_that_is_nested_without_end_is_another_cohorts(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "truth.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="holds a cohort of another design"):
        write_cohort(simulate(small(), 0), tmp_path / "out")


def test_a_slide_that_does_not_fit_on_the_disk_is_told(tmp_path: Path) -> None:
    """HDF5 itself would end the process. Under the limit, Python would leave bytecode cut short for all later tests."""
    code = (
        "import resource, signal, sys; from milbench.commands.cli import main; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)); "
        "sys.exit(main(['data', 'simulate', 'witness', '--out', sys.argv[1], '--slides', '4']))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
