"""Nyström self-attention: softmax attention through a few landmarks, in time linear in the tokens.

paper    Xiong et al., "Nyströmformer", AAAI 2021
code     nystrom-attention 0.0.9 and 0.0.14 (the crops "legacy" and "aligned"), as TransMIL calls it
differs  products are taken from the right, A1 (Z (A3 v)), so none is tokens × landmarks × landmarks
         landmarks are projections of mean tokens, not means of projections
         tokens go through in blocks of rows, and rows of zeros are counted instead of computed (`nystrom_mixing`)
         Z is computed in the first two steps only, which then go on without it (`pseudo_inverse_product`)
         for the first token alone, its attention pools the tokens and then projects them to values
         all are equal to the code up to rounding
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import pad

from milbench.errors import UsageError
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.landmarks import Plan
from milbench_baselines.layers.nystrom_mixing import mixed
from milbench_baselines.layers.one_head import is_narrow, mixed_narrow
from milbench_baselines.layers.options import one_of
from milbench_baselines.layers.products import Linear
from milbench_baselines.layers.usual import are_linear, convolution, is_usual
from milbench_baselines.layers.whole_inverse import pseudo_inverse

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
        self.heads, self.landmarks, self.iterations, self.value_residual = heads, landmarks, iterations, value_residual
        self.crop = one_of(Crop, crop=crop)
        self.to_qkv = Linear(width, 3 * width, bias=False)
        self.to_out = nn.Sequential(Linear(width, width), Dropout(dropout))
        self.res_conv = (
            nn.Conv2d(heads, heads, (value_residual, 1), groups=heads, bias=False) if value_residual else None
        )

    def forward(self, tokens: Tensor, *, rows: Literal[1] | None = None) -> tuple[Tensor, Tensor]:
        """Results [rows, H] of all tokens, or with `rows=1` of the first, whose attention [heads, n] then comes too; else [heads, 0]."""
        if not self.has_usual_projections:
            return self._by_modules(tokens, rows)
        plan = self.plan(len(tokens), rows=rows)
        padding = plan.zeros_ahead
        padded = pad(tokens, (0, 0, padding, 0)) if padding else tokens                    # [padding + n, H]
        kernels = None if self.res_conv is None else self.res_conv.weight[:, 0, :, 0]      # [heads, s]
        if is_narrow(tokens, plan):
            out, attention = mixed_narrow(tokens, self.to_qkv.weight, kernels, plan)
            return self.to_out(out), attention
        out, attention = mixed(padded, self.to_qkv.weight, kernels, plan)
        return self.to_out(out[: len(tokens)]), attention[:, padding:]                     # [rows, H], [heads, n]  (3)

    @property
    def has_usual_projections(self) -> bool:
        """Whether the weights of projections and convolution say what these compute."""
        if not are_linear(self.to_qkv, bias=False):
            return False
        if not isinstance(self.res_conv, nn.Conv2d):
            return self.res_conv is None
        length = self.res_conv.kernel_size[0]  # of 1, it would be taken for none
        return length > 1 and is_usual(self.res_conv, convolution((length, 1), bias=False, padding=(0, 0)))

    def _by_modules(self, tokens: Tensor, rows: Literal[1] | None) -> tuple[Tensor, Tensor]:
        """`forward` as it is written: the modules are called, for whoever listens to them or has put others in their place."""
        n, padding = len(tokens), -len(tokens) % self.landmarks
        first = 0 if self.crop == "legacy" else padding
        projected = self.to_qkv(pad(tokens, (0, 0, padding, 0)))                           # [L, 3 H]
        q, k, v = projected.unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)          # [heads, L, d] each
        q = q * q.shape[-1] ** -0.5
        q_mean, k_mean = (each.unflatten(1, (self.landmarks, -1)).mean(dim=2) for each in (q, k))  # [heads, m, d]
        a1, a2, a3 = ((x @ y.mT).softmax(dim=-1) for x, y in ((q, k_mean), (q_mean, k_mean), (q_mean, k)))  # (1)
        z = pseudo_inverse(a2, self.iterations)                                            # [heads, m, m]  (2)
        mixed = a1 @ (z @ (a3 @ v))                                                        # [heads, L, d]
        if self.res_conv is not None:
            reach = (self.value_residual // 2,) * 2
            mixed = mixed + self.res_conv(pad(v, (0, 0, *reach))[None])[0]                 # [heads, L, d]
        wanted = mixed[:, first : first + (n if rows is None else rows)]
        attention = (a1[:, first, None] @ z @ a3)[:, 0, padding:] if rows == 1 else tokens.new_empty(self.heads, 0)
        return self.to_out(wanted.transpose(0, 1).flatten(1)), attention.detach()          # [rows, H], [heads, n]  (3)

    def plan(self, n_tokens: int, *, rows: Literal[1] | None) -> Plan:
        """Sizes and options for n tokens of which all rows, or the first, are wanted."""
        padding = -n_tokens % self.landmarks if self.crop == "legacy" else 0
        return Plan(self.heads, self.landmarks, self.iterations, first_only=rows == 1, zeros_ahead=padding)
