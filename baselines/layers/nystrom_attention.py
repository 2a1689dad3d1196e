"""Nyström self-attention: softmax attention through a few landmarks, in time linear in the tokens.

paper    Xiong et al., "Nyströmformer", AAAI 2021
code     nystrom-attention 0.0.9 and 0.0.14 (the crops "legacy" and "aligned"), as TransMIL calls it
differs  products are taken from the right, A1 (Z (A3 v)), so none is tokens × landmarks × landmarks
         landmarks are projections of mean tokens, not means of projections
         only the wanted rows are projected to queries; all three are equal to the code up to rounding
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import linear, pad

from milbench.errors import UsageError
from milbench_baselines.layers.depthwise import along
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.options import one_of
from milbench_baselines.layers.pseudo_inverse import pseudo_inverse

Crop = Literal["aligned", "legacy"]


class NystromAttention(nn.Module):
    """Self-attention of tokens [n, H].

    The tokens are padded in front with zero rows to a length L that is a multiple of the m landmarks. The landmarks
    q~, k~ are the means of L/m consecutive rows of q, k. Per head::

        A1 = softmax(q k~^T), A2 = softmax(q~ k~^T), A3 = softmax(q~ k^T)     (1)
        Z ~ A2^+ by Newton-like iterations                                    (2)
        out = Linear(A1 Z A3 v + depthwise convolution of v along the tokens) (3)

    The padding is not masked. It takes part in every softmax and mean, as in the official code.

    Parameters
    ----------
    width : H, a multiple of `heads`.
    heads, landmarks : official 8, 256.
    iterations : steps of the pseudo-inverse. Official: 6.
    dropout : after the output Linear. Official: 0.1.
    value_residual : length of the convolution in (3), odd, or 0 for none. Official: 33.
    crop : rows of the padded result that are kept. "aligned": the last n, which are the tokens' own (0.0.10 and later).
        "legacy": the first n, so that early tokens get the result of a padding row (0.0.9).
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        landmarks: int = 256,
        iterations: int = 6,
        dropout: float = 0.1,
        value_residual: int = 33,
        crop: Crop = "aligned",
    ) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(f"a width of {width} cannot be split into {heads} heads. Choose a multiple of {heads}.")
        if value_residual and value_residual % 2 == 0:
            raise UsageError(f"value_residual is {value_residual}; expected an odd length, or 0 for none.")
        self.heads, self.landmarks, self.iterations = heads, landmarks, iterations
        self.crop = one_of(Crop, crop=crop)
        self.scale = (width // heads) ** -0.5
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), Dropout(dropout))
        self.res_conv = (
            nn.Conv2d(heads, heads, (value_residual, 1), groups=heads, bias=False) if value_residual else None
        )

    def forward(self, tokens: Tensor, *, rows: int | None = None) -> tuple[Tensor, Tensor]:
        """Results [rows, H] of the first `rows` tokens (default: all), and the first token's attention [heads, n]."""
        n = tokens.shape[0]
        padding = -n % self.landmarks
        first = padding if self.crop == "aligned" else 0
        wanted = slice(first, first + (n if rows is None else rows))
        padded = pad(tokens, (0, 0, padding, 0))                                   # [L, H]
        means = padded.reshape(self.landmarks, -1, padded.shape[1]).sum(dim=1) / (len(padded) // self.landmarks)
        asking = tokens[:rows] if self.crop == "aligned" else padded[wanted]       # [rows, H]; a slice of `padded` would cost a gradient of L rows
        to_q, to_k, to_v = self.to_qkv.weight.chunk(3)                             # [H, H] each
        q, k, v = self._heads(asking, to_q), self._heads(padded, to_k), self._heads(padded, to_v)
        q_mean, k_mean = self._heads(means, to_q) * self.scale, self._heads(means, to_k).mT  # [heads, m, d], [heads, d, m]
        a1 = (q @ (k_mean * self.scale)).softmax(dim=-1)                           # [heads, rows, m]  (1)
        a2 = (q_mean @ k_mean).softmax(dim=-1)                                     # [heads, m, m]
        a3 = (q_mean @ k.mT).softmax(dim=-1)                                       # [heads, m, L]
        z = pseudo_inverse(a2, self.iterations)                                    # [heads, m, m]     (2)
        mixed = a1 @ (z @ (a3 @ v))                                                # [heads, rows, d]
        if self.res_conv is not None:
            mixed = mixed + along(v, self.res_conv.weight[:, 0, :, 0], wanted)     # [heads, rows, d]
        out = self.to_out(mixed.transpose(0, 1).flatten(1))                        # [rows, H]         (3)
        attention = (a1[:, :1].detach() @ z.detach() @ a3.detach())[:, 0, padding:]  # [heads, n]
        return out, attention

    def _heads(self, tokens: Tensor, weight: Tensor) -> Tensor:
        """Projections [heads, rows, d] of tokens [rows, H]."""
        return linear(tokens, weight).reshape(len(tokens), self.heads, -1).transpose(0, 1)
