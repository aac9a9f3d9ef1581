"""Named compositions: several optimizers at work on one model, put together with `jopt.route`."""

from __future__ import annotations

import re
from typing import Literal

import jax

from jopt.base import configured
from jopt.core import Groups, StateDtype, Transform, Value, route
from jopt.optimizers import adamw, muon


class Matrices:
    """The predicate of `muon_adamw`: matrices, unless their path says they are something else."""

    def __init__(self, exclude: str) -> None:
        self.exclude = exclude

    def __call__(self, path: str, leaf: jax.ShapeDtypeStruct) -> bool:
        """Whether the leaf at `path` goes to Muon."""
        return len(leaf.shape) == 2 and re.search(self.exclude, path) is None

    def __repr__(self) -> str:
        return f"Matrices(exclude={self.exclude!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matrices) and self.exclude == other.exclude

    def __hash__(self) -> int:
        return hash(self.exclude)


@configured("jopt.recipes.")
def muon_adamw(
    learning_rate: Value = 2e-2,
    *,
    adamw_learning_rate: Value = 3e-4,
    exclude: str = r"(?i)(embed|head|lm_out|logits)",
    weight_decay: Value = 0.1,
    momentum: Value = 0.95,
    b1: Value = 0.9,
    b2: Value = 0.95,
    eps: Value = 1e-10,
    adjust_lr: Literal["original", "match_rms_adamw"] | None = None,
    kernels: Literal["out_in", "in_out"] = "in_out",
    adamw_groups: Groups = None,
    state_dtype: StateDtype = None,
) -> Transform:
    """Muon for the matrices inside a network, AdamW for all the rest.

    Embeddings and output heads are matrices too, but are not meant to be orthogonal: they are
    told by their path and go to AdamW. `jopt.routing(tx, params)` lists who goes where; look
    at it once for every new model.

    **Arguments:**

    - `learning_rate`: Muon's; 0.02 is Jordan's.
    - `adamw_learning_rate`: AdamW's; 3·10⁻⁴ is Jordan's for his auxiliary Adam, as are `b1`
      and `eps`.
    - `exclude`: matrices whose path this pattern is found in go to AdamW.
    - `weight_decay`: of both, decoupled; 0.1 is torch's for Muon.
    - `momentum`, `adjust_lr`: Muon's, see `jopt.muon`.
    - `kernels`: how matrices are stored; `"in_out"`, as flax does, is the default here.
    - `b1`, `b2`, `eps`: AdamW's.
    - `adamw_groups`: groups among the leaves that AdamW has.
    - `state_dtype`: how the slots of both are stored, see `jopt.Common`.

    **State:** `{"route": {"inner": {"muon": {...}, "adamw": {...}}}}`.

    Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks".

    >>> import jax.numpy as jnp, jopt
    >>> params = {"embed": {"w": jnp.ones((9, 4))}, "mlp": {"kernel": jnp.ones((4, 8)),
    ...           "bias": jnp.ones(8)}}
    >>> jopt.routing(jopt.recipes.muon_adamw(), params)
    {'embed/w': 'rest', 'mlp/bias': 'rest', 'mlp/kernel': 'matrices'}
    """
    matrices = muon(
        learning_rate,
        weight_decay=weight_decay,
        momentum=momentum,
        adjust_lr=adjust_lr,
        kernels=kernels,
        state_dtype=state_dtype,
    )
    rest = adamw(
        adamw_learning_rate,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        groups=adamw_groups,
        state_dtype=state_dtype,
    )
    return route(rest, matrices=(Matrices(exclude), matrices))
