"""The recipes that single-task models declare: every key is understood, and they train."""

import pytest
import torch

from milbench.training.optimizers import LookaheadRAdam, make_optimizer
from milbench.training.selection import Epoch, TrialProgress
from milbench.training.single_model import Bags, fit
from milbench.trials.recipe import recipe_for
from milbench_baselines.acmil import ACMIL
from milbench_baselines.clam import CLAMMB, CLAMSB
from milbench_baselines.dsmil import DSMIL
from milbench_baselines.dtfd_mil import DTFDMIL
from milbench_baselines.ilra import ILRA
from milbench_baselines.rrt_mil import RRTMIL
from milbench_baselines.transmil import TransMIL
from milbench_baselines.wikg import WiKG

SMALL = {
    DSMIL: {"attention": 4},
    TransMIL: {"hidden": 16, "landmarks": 4},
    DTFDMIL: {"hidden": 8, "attention": 4},
    CLAMSB: {"hidden": 16, "attention": 4},
    CLAMMB: {"hidden": 16, "attention": 4},
    ACMIL: {"hidden": 16, "attention": 4},
    ILRA: {"hidden": 16},
    RRTMIL: {"hidden": 16, "attention": 4},
    WiKG: {"hidden": 16},
}


def bags(count: int) -> Bags:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    features = [torch.randn(5 + i % 3, 6, generator=generator) + 2 * label for i, label in enumerate(labels)]
    return Bags(features, labels[:, None].float(), torch.ones(count, 1))


@pytest.mark.parametrize("model", SMALL)
def test_the_official_recipe_lowers_the_training_loss(model):
    recipe = recipe_for(model, "official", {}, {"epochs": 25, "lr": 0.005})
    torch.manual_seed(0)
    made = model(6, 1, **{**SMALL[model], **recipe.model})
    history = fit(made, recipe, bags(12), bags(6), seed=0, device=torch.device("cpu")).history
    assert history[-1].train_loss < 0.7 * history[0].train_loss


def test_transmil_decays_matrices_and_the_class_token_but_no_vector():
    model = TransMIL(6, 1, **SMALL[TransMIL])
    optimizer = make_optimizer(dict(model.named_parameters()), recipe_for(TransMIL, "official", {}, {}))
    assert isinstance(optimizer, LookaheadRAdam)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] > 0 for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert "class_token" in names
    assert not any(name.endswith(("bias", "norm.weight")) for name in names)


def test_dsmil_ends_near_the_published_floor_and_dtfd_drops_at_epoch_100():
    dsmil, dtfd = (recipe_for(model, "official", {}, {}) for model in (DSMIL, DTFDMIL))
    assert dsmil.lr * dsmil.lr_factor(dsmil.epochs) == pytest.approx(5e-6)
    assert [dtfd.lr * dtfd.lr_factor(epoch) for epoch in (99, 100)] == pytest.approx([1e-4, 2e-5])
    assert next(epoch for epoch in range(dtfd.epochs) if dtfd.can_select(epoch)) == 161


def test_clam_draws_classes_equally_and_stops_20_epochs_after_the_lowest_loss():
    recipe = recipe_for(CLAMSB, "official", {}, {})
    assert (recipe.sampler, recipe.select_by, recipe.epochs) == ("balanced", "val_loss", 200)
    assert recipe == recipe_for(CLAMMB, "official", {}, {})
    progress = TrialProgress()
    for epoch in range(21):
        assert not (epoch and progress.is_out_of_patience(recipe))
        progress.consider(Epoch(epoch, recipe.lr, 1.0, 0.5 if epoch == 0 else 0.6, 0.5), recipe)
    assert progress.is_out_of_patience(recipe)


def test_acmil_falls_to_a_rate_of_zero():
    recipe = recipe_for(ACMIL, "official", {}, {})
    assert recipe.lr_factor(25) == pytest.approx(0.5)
    assert recipe.lr_factor(50) == pytest.approx(0, abs=1e-12)
