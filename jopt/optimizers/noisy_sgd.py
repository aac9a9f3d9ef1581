"""SGD with noise on its gradients, of which there is less and less."""

from __future__ import annotations

from typing import Unpack

from jopt.core import Coupled, Hyper, Number, Spec, Value, optimizer, treewise
from jopt.core.vocabulary import DECAY, RATE
from jopt.transforms.noise import ALSO, KEY, SEED, check_seed, prepare, rule

SPEC = Spec(
    name="noisy_sgd",
    hypers=(RATE, Hyper("eta", "[0, inf)"), Hyper("gamma"), SEED, DECAY),
    slots=(KEY,),
    gives="direction",
    decay="gradient",
    counts=True,
    ageless=True,
    params_by=("weight_decay",),
)


@optimizer(SPEC, rule, door=treewise, prepare=prepare, also=ALSO)
def noisy_sgd(
    learning_rate: Value = 1e-3,
    eta: Value = 0.01,
    gamma: Value = 0.55,
    key: Number | None = None,
    *,
    seed: Number = 0,
    weight_decay: Value = 0.0,
    **common: Unpack[Coupled],
) -> None:
    """SGD whose gradients have noise on them, which falls as the steps go on.

    With η the learning rate, σ² `eta`, λ the weight decay, z from a normal distribution and t the
    step from 1:

        p ← p − η·(g + λ·p + √(σ² / tᵞ)·z)

    It is `jopt.add_noise` before `jopt.sgd`, to the bit.

    **Arguments** (defaults are optax's; η is torch's SGD's):

    - `learning_rate`: η ≥ 0, a number or a schedule.
    - `eta`: σ² ≥ 0, the variance at the first step.
    - `gamma`: γ, how fast it falls; 0: never.
    - `seed`, or optax's name `key`: a whole number up to 2²⁴, from which the first key is made.
      Read when the state is made.
    - `weight_decay`: λ ≥ 0, added to the gradient (coupled).
    - `**common`: `maximize`, `decoupled`, `groups`, `state_dtype` and what else every optimizer
      takes, see `jopt.Coupled`.

    **State:** `key`, two uint32 for each group, so that a run that is resumed draws what it would
    have drawn; and the step count. A leaf's noise depends on its path, not on its neighbours nor
    on its sharding.

    **Raises:** `ConfigError` for a number out of range, or a seed that is no whole number.

    Source: Neelakantan et al., 2015, section 3.

    >>> import jax.numpy as jnp, jopt
    >>> tx, params = jopt.noisy_sgd(1.0, 0.04, seed=1), {"w": jnp.zeros(10_000)}
    >>> updates, state = tx.update({"w": jnp.ones(10_000)}, tx.init(params), params)
    >>> round(float(updates["w"].mean()), 1), round(float(updates["w"].std()), 1)
    (-1.0, 0.2)
    """
    check_seed("noisy_sgd", seed, key)
