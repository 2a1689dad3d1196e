"""Nyström self-attention: softmax attention through a few landmarks, in time linear in the tokens.

paper   : Xiong et al., "Nyströmformer", AAAI 2021.
code    : nystrom-attention 0.0.9 and 0.0.14 (the crops "legacy" and "aligned"), as TransMIL calls it.
differs : the products are taken from the right, A1 (Z (A3 v)), which never makes a tokens × landmarks
          × landmarks product; equal up to rounding.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import pad

from milbench.errors import UsageError

from .depthwise import along
from .dropout import Dropout
from .options import one_of
from .pseudo_inverse import pseudo_inverse

Crop = Literal["aligned", "legacy"]


class NystromAttention(nn.Module):
    """Self-attention of tokens [n, H], front-padded with zero rows to L, a multiple of the m landmarks.

    With landmarks q~, k~ = means of L/m consecutive rows of q, k, and per head::

        A1 = softmax(q k~^T), A2 = softmax(q~ k~^T), A3 = softmax(q~ k^T)     (1)
        Z ~ A2^+ by Newton-like iterations                                    (2)
        out = Linear(A1 Z A3 v + depthwise convolution of v along the tokens) (3)

    The padding is not masked: it takes part in every softmax and mean, as in the official code.

    Parameters
    ----------
    width : H, a multiple of `heads`.
    heads, landmarks : official 8, 256.
    iterations : of the pseudo-inverse. Official: 6.
    dropout : after the output Linear. Official: 0.1.
    value_residual : length of the convolution in (3), odd, or 0 for none. Official: 33.
    crop : rows of the padded result that are kept: "aligned" (the last n, the tokens' own; 0.0.10 and later) or
        "legacy" (the first n, so that early tokens get a padding row's result; 0.0.9).
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
        """Results [rows, H] of the first `rows` tokens (default all), and the first one's attention [heads, n]."""
        n = tokens.shape[0]
        padding = -n % self.landmarks
        qkv = self.to_qkv(pad(tokens, (0, 0, padding, 0))).chunk(3, dim=-1)       # [L, H] each
        q, k, v = (x.reshape(len(x), self.heads, -1).transpose(0, 1) for x in qkv)  # [heads, L, d] each
        q = q * self.scale
        q_mean, k_mean = self._landmarks(q), self._landmarks(k).mT                # [heads, m, d], [heads, d, m]
        first = padding if self.crop == "aligned" else 0
        wanted = slice(first, first + (n if rows is None else rows))
        a1 = (q[:, wanted] @ k_mean).softmax(dim=-1)                              # [heads, rows, m]  (1)
        a2 = (q_mean @ k_mean).softmax(dim=-1)                                    # [heads, m, m]
        a3 = (q_mean @ k.mT).softmax(dim=-1)                                      # [heads, m, L]
        z = pseudo_inverse(a2, self.iterations)                                   # [heads, m, m]     (2)
        mixed = a1 @ (z @ (a3 @ v))                                               # [heads, rows, d]
        if self.res_conv is not None:
            mixed = mixed + along(v, self.res_conv.weight[:, 0, :, 0], wanted)    # [heads, rows, d]
        out = self.to_out(mixed.transpose(0, 1).flatten(1))                       # [rows, H]         (3)
        attention = (a1[:, :1].detach() @ z.detach() @ a3.detach())[:, 0, padding:]  # [heads, n]
        return out, attention

    def _landmarks(self, x: Tensor) -> Tensor:
        """Means [heads, m, d] of consecutive rows of x [heads, L, d]."""
        return x.reshape(len(x), self.landmarks, -1, x.shape[-1]).mean(dim=2)
