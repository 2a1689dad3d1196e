"""Small models that tests register as a plug-in: one that learns, and some that misbehave."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

from torch import Tensor, nn

from milbench.models import BagOutput, MILModel, register_model


@register_model("tiny", title="Tiny", tasks="single", official_recipe={"lr": 0.1, "epochs": 3, "optimizer": "adam"})
class Tiny(MILModel):
    """Mean of the patches, dropout, one linear layer."""

    def __init__(self, in_features: int, n_tasks: int, *, hidden: int = 8, dropout: float = 0.1) -> None:
        super().__init__(in_features, n_tasks)
        self.embed = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(hidden, n_tasks)

    def forward(self, features: Tensor) -> BagOutput:
        return BagOutput(self.head(self.embed(features).mean(0)), None, {})


@register_model("tiny_multi", title="Tiny multi", tasks="multi")
class TinyMulti(Tiny):
    """The same for all tasks at once."""


@register_model("slow", title="Slow", tasks="single")
class Slow(Tiny):
    """Takes its time, so that a test can interrupt it."""

    def forward(self, features: Tensor) -> BagOutput:
        time.sleep(0.002)
        return super().forward(features)


@register_model("raises", title="Raises", tasks="single")
class Raises(Tiny):
    def forward(self, features: Tensor) -> BagOutput:
        raise ValueError("on purpose")


@register_model("exits", title="Exits", tasks="single")
class Exits(Tiny):
    def forward(self, features: Tensor) -> BagOutput:
        sys.exit(3)


@register_model("killed", title="Killed", tasks="single")
class Killed(Tiny):
    """Dies as a process does that the system kills because memory ran out."""

    def forward(self, features: Tensor) -> BagOutput:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(features)


@register_model("hangs", title="Hangs", tasks="single")
class Hangs(Tiny):
    """Waits for what never comes."""

    def forward(self, features: Tensor) -> BagOutput:
        time.sleep(3600)
        return super().forward(features)


@register_model("hangs_in_c", title="Hangs in C", tasks="single")
class HangsInC(Tiny):
    """Never gives the interpreter back: no Python thread or signal handler of its process runs any more."""

    def forward(self, features: Tensor) -> BagOutput:
        re.match(r"(a+)+$", "a" * 60 + "b")
        return super().forward(features)


@register_model("stops", title="Stops", tasks="single")
class Stops(Tiny):
    """Is stopped as a debugger or a batch system stops a process: not even its alarm rings."""

    def forward(self, features: Tensor) -> BagOutput:
        os.kill(os.getpid(), signal.SIGSTOP)
        return super().forward(features)


@register_model("tells", title="Tells", tasks="single")
class Tells(Tiny):
    """Leaves word of which GPU its process sees."""

    def __init__(self, in_features: int, n_tasks: int) -> None:
        super().__init__(in_features, n_tasks)
        time.sleep(1)  # so that one worker cannot do it all
        place = Path(os.environ["MILBENCH_TELLS"])
        (place / f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'none')}-{os.getpid()}").touch()


@register_model("explodes", title="Explodes", tasks="single")
class Explodes(Tiny):
    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        return super().loss(output, targets, known) / 0


THIS_FILE = Path(__file__).resolve()
