"""A wrapped transform wherever optax's and flax's signatures ask for an optax one."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.training.train_state import TrainState

import jopt
from jopt.core import State
from jopt.interop.optax import wrap

params = {"w": jnp.ones(2)}
tx: optax.GradientTransformationExtraArgs = wrap(jopt.adamw(1e-3))

chained: optax.GradientTransformation = optax.chain(optax.clip(1.0), tx)
several = optax.MultiSteps(tx, every_k_schedule=2)
finite: optax.GradientTransformation = optax.apply_if_finite(tx, 3)
masked: optax.GradientTransformation = optax.masked(tx, {"w": True})
optimizer = nnx.Optimizer(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), tx, wrt=nnx.Param)
trained = TrainState.create(apply_fn=jnp.sin, params=params, tx=chained)

updates, state = tx.update(params, tx.init(params), params, value=jnp.float32(1.0))


def own() -> dict[str, jax.Array]:
    """What a transform returns has the types that went in."""
    own = jopt.adamw(1e-3)
    state: State = own.init(params)
    updates, state = own.update(params, state, params)
    gradients: dict[str, jax.Array] = updates
    after: dict[str, jax.Array] = jopt.apply_updates(params, gradients)
    after, state = jopt.step(own, gradients, state, after)
    return jopt.eval_params(jopt.extend(own, state, after), after)
