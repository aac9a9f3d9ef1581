"""Fit a line, save it with its optimizer, load both."""

import jax
import jax.numpy as jnp

import jopt

tx = jopt.adamw(0.1, groups={"no_decay": jopt.group("bias$", weight_decay=0.0)})
params = {"slope": jnp.float32(0.0), "bias": jnp.float32(0.0)}
state = tx.init(params)
x = jnp.linspace(-1.0, 1.0, 64)


@jax.jit
def step(params, state):
    grads = jax.grad(lambda p: jnp.mean((p["slope"] * x + p["bias"] - 3 * x - 1) ** 2))(params)
    updates, state = tx.update(grads, state, params)
    return jopt.apply_updates(params, updates), state


for _ in range(200):
    params, state = step(params, state)
state = jopt.set_hyperparams(state, learning_rate=0.01)  # a number in the state: no recompile
jopt.save("line.msgpack", {"params": params, "state": state}, tx=tx)
run = jopt.load("line.msgpack", like={"params": params, "state": state}, tx=tx)
print(run["params"], jopt.hyperparams(run["state"]))
