"""Trained model: a model with its weights and the scaling of its training, ready to be asked about bags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milbench.bag import Bag
from milbench.cohorts.scaling import FeatureScaler
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.endpoints.probabilities import sigmoids
from milbench.errors import CheckpointError, UsageError
from milbench.heatmap.asked import Asked, answers_by_row, asked_of
from milbench.layout import Layout, Patches, patches_of
from milbench.models import AttentionMaps, BagOutput, MILModel, build

NO_RISK: Mapping[str, Mapping[str, float]] = MappingProxyType({})


class TrainedModel(nn.Module):
    """A model as its training left it, in eval mode. It takes bags as stored on disk and scales them as its training did.

    Attributes
    ----------
    id : the trial that it comes from.
    model : the registered model with its weights.
    tasks : the tasks of its answers.
    outputs : its logits, with the tasks as the trial's training patients fitted them.
    asked : what each row of its maps is about.
    scaler : fitted on the trial's training slides.
    training_risk : mean, sd and median of the training patients' risks, by survival task.
    """

    def __init__(
        self,
        trial_id: str,
        model: MILModel,
        tasks: Sequence[str],
        outputs: Outputs,
        scaler: FeatureScaler,
        training_risk: Mapping[str, Mapping[str, float]] = NO_RISK,
    ) -> None:
        super().__init__()
        self.id, self.model, self.outputs, self.scaler = trial_id, model, outputs, scaler
        self.training_risk = training_risk
        self.tasks: tuple[str, ...] = tuple(tasks)
        self.asked = asked_of(self.tasks, self.outputs)
        self.eval()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}: {sum(weight.numel() for weight in self.parameters()):,} parameters)"

    @property
    def name(self) -> str:
        """Registry name."""
        return self.model.info.name

    @property
    def endpoint_of(self) -> dict[str, FittedEndpoint]:
        """Endpoint by task."""
        return dict(zip(self.tasks, self.outputs.endpoints, strict=True))

    def patches(self, bag: Bag) -> Patches:
        """The bag as the model takes it: ``model.maps(*model.patches(bag).given)``.

        Raises
        ------
        DataError : the model needs coordinates, and the bag has none that can be used.
        """
        return patches_of(bag, self.model.wanted_neighbours)

    def forward(self, features: Tensor, layout: Layout | None = None) -> BagOutput:
        """Output for one bag [N, D] as stored on disk; with its layout if the model needs coordinates."""
        output: BagOutput = self.model(*self.model.inputs(self._scaled(features, layout)))
        return output

    def maps(self, features: Tensor, layout: Layout | None = None) -> AttentionMaps:
        """Maps of one bag [N, D] as stored on disk; with its layout if the model needs coordinates."""
        with torch.no_grad():
            return self.model.maps(self._scaled(features, layout))

    def _scaled(self, features: Tensor, layout: Layout | None) -> Patches:
        _refuse_no_features(features)
        return Patches(self.scaler(features), layout)

    def probabilities(self, features: Tensor, layout: Layout | None = None) -> Tensor:
        """Probabilities [T] of binary tasks, of one bag [N, D] as stored on disk.

        Raises
        ------
        UsageError : a task is not binary.
        """
        if not self.outputs.all_binary:
            raise UsageError(f"{self.id} has tasks that are not binary. Ask for answers(features) instead.")
        with torch.no_grad():
            return torch.sigmoid(self(features, layout).logits)

    def row(self, asked: Asked) -> int:
        """Place of what is asked among the rows of its maps."""
        return self.asked.index(asked)

    def answers(self, features: Tensor, layout: Layout | None = None) -> NDArray[np.float64]:
        """Answer [R] to what each row of its maps asks, of one bag [N, D] as stored on disk."""
        with torch.no_grad():
            return self.answers_of(self(features, layout).logits)

    def answers_of(self, logits: Tensor) -> NDArray[np.float64]:
        """Answer [R] to what each row of its maps asks, of a bag's logits [W]."""
        return answers_by_row(self.outputs, logits.cpu().numpy(), sigmoids(logits))


def built_with(
    weights: Mapping[str, Tensor],
    model: type[MILModel],
    in_features: int,
    outputs: Outputs,
    hyperparameters: Mapping[str, Any],
    *,
    seed: int,
) -> MILModel:
    """The model with these weights, in eval mode.

    Raises
    ------
    CheckpointError : the weights are not those of the model as it is now; the message is the reason alone.
    """
    try:
        # from the trial's seed: not all that a constructor draws must be a weight
        built = build(model, in_features, outputs, hyperparameters, seed=seed)
        built.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(str(error).strip().splitlines()[-1].strip()) from error
    return built.eval()


def _refuse_no_features(features: object) -> None:
    if isinstance(features, Bag):
        raise UsageError(f"a model takes the features of slide {features.slide_id}, not its bag. Write bag.features.")
    if not isinstance(features, Tensor):
        raise UsageError(
            f"a model takes features as a torch tensor, not as {type(features).__name__}. If they are a NumPy array, write "
            "torch.from_numpy(features)."
        )
