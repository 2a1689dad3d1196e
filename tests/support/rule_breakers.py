"""Models that each break one rule of docs/models.md, as a plug-in of somebody else would."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from milbench.layout import Layout
from milbench.models import AttentionMaps, BagOutput, MILModel, register_model

THIS_FILE = Path(__file__).resolve()


@register_model("keeps_all", title="Keeps all rules", tasks="single")
class KeepsAll(MILModel):
    def __init__(self, in_features: int, n_tasks: int, *, hidden: int = 8) -> None:
        super().__init__(in_features, n_tasks)
        self.embed, self.head = nn.Linear(in_features, hidden), nn.Linear(hidden, n_tasks)

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(self.head(self.embed(features).mean(0)), None, {})


@register_model("takes_settings", title="Takes settings", tasks="single", takes_cohort_settings=True)
class TakesSettings(KeepsAll):
    pass


@register_model("normalises", title="Normalises", tasks="single")
class Normalises(KeepsAll):
    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        self.norm = nn.BatchNorm1d(in_features)

    def forward(self, features: Tensor) -> BagOutput:
        return super().forward(self.norm(features))


@register_model("branches", title="Branches", tasks="single")
class Branches(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        if features.mean() > 0:
            features = features * 2
        return super().forward(features)


@register_model("idles", title="Idles", tasks="single")
class Idles(KeepsAll):
    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        self.unused = nn.Linear(3, 3)


@register_model("own_chance", title="Own chance", tasks="single")
class OwnChance(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        return super().forward(features * np.random.default_rng().random())


@register_model("writes_layout", title="Writes layout", tasks="single", needs_coords=True)
class WritesLayout(KeepsAll):
    def forward(self, features: Tensor, layout: Layout) -> BagOutput:  # type: ignore[override]
        layout.coords[0] = 0.0
        return super().forward(features)


@register_model("takes_no_layout", title="Takes no layout", tasks="single", needs_coords=True)
class TakesNoLayout(KeepsAll):
    pass


@register_model("declares_no_layout", title="Declares no layout", tasks="single")
class DeclaresNoLayout(KeepsAll):
    def forward(self, features: Tensor, layout: Layout) -> BagOutput:  # type: ignore[override]
        return super().forward(features)


@register_model("maps_take_no_layout", title="Maps take no layout", tasks="single", needs_coords=True)
class MapsTakeNoLayout(DeclaresNoLayout):
    def attention_maps(self, features: Tensor) -> AttentionMaps:
        raise NotImplementedError


@register_model("forgets_neighbours", title="Forgets neighbours", tasks="single", needs_coords=True)
class ForgetsNeighbours(KeepsAll):
    def forward(self, features: Tensor, layout: Layout) -> BagOutput:  # type: ignore[override]
        return super().forward(features[layout.neighbours].mean(dim=1))


@register_model("odd_neighbours", title="Odd neighbours", tasks="single", needs_coords=True)
class OddNeighbours(KeepsAll):
    def __init__(self, in_features: int, n_tasks: int, *, nearest: float = -3) -> None:
        super().__init__(in_features, n_tasks)
        self.n_neighbours = nearest  # type: ignore[assignment]

    def forward(self, features: Tensor, layout: Layout) -> BagOutput:  # type: ignore[override]
        return super().forward(features)


@register_model("own_start", title="Own start", tasks="single")
class OwnStart(KeepsAll):
    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        self.start = nn.Parameter(torch.from_numpy(np.random.default_rng().random(3)))


@register_model("begins_as_nan", title="Begins as NaN", tasks="single")
class BeginsAsNan(KeepsAll):
    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        self.start = nn.Parameter(torch.full((3,), torch.nan))


@register_model("keeps_a_thread", title="Keeps a thread", tasks="single")
class KeepsAThread(KeepsAll):
    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        threading.Thread(target=time.sleep, args=(1000,)).start()
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])


@register_model("counts", title="Counts", tasks="single")
class Counts(KeepsAll):
    calls = 0

    def forward(self, features: Tensor) -> BagOutput:
        self.calls += 1
        return super().forward(features * self.calls)


@register_model("writes_bag", title="Writes", tasks="single")
class WritesBag(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        return super().forward(features.mul_(2))


@register_model("two_logits", title="Two logits", tasks="single")
class TwoLogits(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(torch.zeros(2) + self.head(self.embed(features).mean(0)), None, {})


@register_model("one_too_many", title="One too many", tasks="single")
class OneTooMany(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        logits = super().forward(features).logits
        return BagOutput(torch.cat([logits, logits[:1]]), None, {})


@register_model("bare", title="Bare", tasks="single")
class Bare(KeepsAll):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).logits


@register_model("wants_two", title="Wants two", tasks="single")
class WantsTwo(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        return super().forward(features[1][None])


@register_model("sets_dtype", title="Sets dtype", tasks="single")
class SetsDtype(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        torch.set_default_dtype(torch.float64)
        return super().forward(features)


@register_model("changes_folder", title="Changes folder", tasks="single")
class ChangesFolder(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        os.chdir("/")
        return super().forward(features)


@register_model("leaves", title="Leaves", tasks="single")
class Leaves(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        os._exit(0)


@register_model("kills_itself", title="Kills itself", tasks="single")
class KillsItself(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        os.kill(os.getpid(), 9)
        return super().forward(features)


@register_model("waits", title="Waits", tasks="single")
class Waits(KeepsAll):
    def forward(self, features: Tensor) -> BagOutput:
        time.sleep(3600)
        return super().forward(features)
