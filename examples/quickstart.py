"""Fit a line, save it with its optimizer, load both."""

import jax
import jax.numpy as jnp

import jopt

tx = jopt.adamw(0.1, groups={"no_decay": jopt.group("bias$", weight_decay=0.0)})
params = {"slope": jnp.zeros(()), "bias": jnp.zeros(())}
state, x = tx.init(params), jnp.linspace(-1.0, 1.0, 64)
grad = jax.jit(jax.grad(lambda p: jnp.mean((p["slope"] * x + p["bias"] - 3 * x - 1) ** 2)))
update = jax.jit(tx.update)
for _ in range(200):
    updates, state = update(grad(params), state, params)
    params = jopt.apply_updates(params, updates)
state = jopt.set_hyperparams(state, learning_rate=0.01)  # a number in the state: no recompile
jopt.save("line.msgpack", {"params": params, "state": state}, tx=tx)
print(jopt.load("line.msgpack", like={"params": params, "state": state}, tx=tx)["params"])
