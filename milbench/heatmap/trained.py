"""Trained model: a model with its weights and the scaling of its training, ready to be asked about bags."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milbench.bag import Bag
from milbench.cohorts.scaling import FeatureScaler
from milbench.endpoints.outputs import Outputs
from milbench.errors import UsageError
from milbench.heatmap.asked import Asked, answers_by_row, asked_of
from milbench.models import AttentionMaps, BagOutput, MILModel


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
    """

    def __init__(
        self, trial_id: str, model: MILModel, tasks: Sequence[str], outputs: Outputs, scaler: FeatureScaler
    ) -> None:
        super().__init__()
        self.id, self.model, self.outputs, self.scaler = trial_id, model, outputs, scaler
        self.tasks: tuple[str, ...] = tuple(tasks)
        self.asked = asked_of(self.tasks, self.outputs)
        self.eval()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}: {sum(weight.numel() for weight in self.parameters()):,} parameters)"

    def forward(self, features: Tensor) -> BagOutput:
        """Output for one bag [N, D] as stored on disk."""
        _refuse_a_bag(features)
        output: BagOutput = self.model(self.scaler(features))
        return output

    def maps(self, features: Tensor) -> AttentionMaps:
        """Maps of one bag [N, D] as stored on disk."""
        _refuse_a_bag(features)
        with torch.no_grad():
            return self.model.attention_maps(self.scaler(features))

    def probabilities(self, features: Tensor) -> Tensor:
        """Probabilities [T] of binary tasks, of one bag [N, D] as stored on disk.

        Raises
        ------
        UsageError : a task is not binary.
        """
        if not self.outputs.all_binary:
            raise UsageError(f"{self.id} has tasks that are not binary. Ask for answers(features) instead.")
        with torch.no_grad():
            return torch.sigmoid(self(features).logits)

    def row(self, asked: Asked) -> int:
        """Place of what is asked among the rows of its maps."""
        return self.asked.index(asked)

    def answers(self, features: Tensor) -> NDArray[np.float64]:
        """Answer [R] to what each row of its maps asks, of one bag [N, D] as stored on disk."""
        with torch.no_grad():
            return self.answers_of(self(features).logits)

    def answers_of(self, logits: Tensor) -> NDArray[np.float64]:
        """Answer [R] to what each row of its maps asks, of a bag's logits [W]."""
        probabilities = torch.sigmoid(logits).double().cpu().numpy()
        return answers_by_row(self.outputs, logits.cpu().numpy(), probabilities)


def _refuse_a_bag(features: object) -> None:
    if isinstance(features, Bag):
        raise UsageError(f"a model takes the features of slide {features.slide_id}, not its bag. Write bag.features.")
