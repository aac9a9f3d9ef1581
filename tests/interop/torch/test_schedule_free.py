"""States of PyPI's `schedulefree`, over and back: live where it is installed, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.interop.torch import export_schedule_free, import_schedule_free

FIRST, THEN = 5, 5
WARM = jopt.schedules.linear(0.0125, 0.1, 7)


def corrected(rate, **on):
    return jopt.rmsprop(rate, 0.99, bias_correction=True, decoupled=True, weight_decay=0.1, **on)


CASES = {
    "adamw, eval": (
        "AdamWScheduleFree",
        {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.1},
        lambda: jopt.schedule_free(corrected(0.1), 0.1),
        False,
    ),
    "adamw with its slot, train": (
        "AdamWScheduleFree",
        {"lr": 0.1, "betas": (0.8, 0.99), "weight_decay": 0.1},
        lambda: jopt.schedule_free(jopt.adamw(0.5, 0.0, 0.9), 0.3),  # the numbers are the file's
        True,
    ),
    "sgd, warming up": (
        "SGDScheduleFree",
        {"lr": 0.1, "weight_decay": 0.1, "warmup_steps": 8},
        lambda: jopt.schedule_free(jopt.sgd(WARM, weight_decay=0.1), WARM),
        False,
    ),
}
START = {"a": np.sin(np.arange(12.0)).reshape(3, 4), "b": np.cos(np.arange(4.0))}


def gradient(p, t):
    return np.sin(3 * np.asarray(p) + t)


def on_in_torch(optimizer, own, steps):
    optimizer.train()
    for t in steps:
        for p in own.values():
            p.grad = torch.tensor(gradient(p.detach().numpy(), t))
        optimizer.step()


def on_here(tx, params, state, steps):
    step = jax.jit(lambda g, s, p: jopt.step(tx, g, s, p))
    for t in steps:
        grads = {k: jnp.asarray(gradient(p, t)) for k, p in params.items()}
        params, state = step(grads, state, params)
    return params, state


def near(found, want):
    for k, p in want.items():
        np.testing.assert_allclose(found[k], p.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_running_state_goes_over_on_and_back(name, x64):
    kind, arguments, made, training = CASES[name]
    kind = getattr(pytest.importorskip("schedulefree"), kind)
    own = {k: torch.nn.Parameter(torch.tensor(x)) for k, x in START.items()}
    theirs, tx = kind([*own.values()], **arguments), made()
    on_in_torch(theirs, own, range(FIRST))
    if not training:
        theirs.eval()
    before = {k: jnp.array(p.detach().numpy()) for k, p in own.items()}
    params, state = import_schedule_free(tx, before, theirs.state_dict())
    if not training:
        near(jopt.eval_params(state, params), own)
    params, state = on_here(tx, params, state, range(FIRST, FIRST + THEN))
    on_in_torch(theirs, own, range(FIRST, FIRST + THEN))
    near(params, own)
    near(state["schedule_free"]["z"], {k: theirs.state[p]["z"] for k, p in own.items()})

    again = {k: torch.nn.Parameter(torch.tensor(np.asarray(x))) for k, x in params.items()}
    back = kind([*again.values()], **{**arguments, "warmup_steps": 0})
    back.load_state_dict(export_schedule_free(tx, params, state))
    on_in_torch(back, again, range(FIRST + THEN, FIRST + 2 * THEN))
    params, state = on_here(tx, params, state, range(FIRST + THEN, FIRST + 2 * THEN))
    near(params, again)
    back.eval()
    near(jopt.eval_params(state, params), again)


def test_what_is_written_is_read(x64):
    tx = jopt.schedule_free(corrected(0.1), 0.1)
    params = {k: jnp.asarray(x) for k, x in START.items()}
    params, state = on_here(tx, params, tx.init(params), range(3))
    saved = export_schedule_free(tx, params, state)
    read, again = import_schedule_free(tx, params, saved)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for x, y in zip(jax.tree.leaves((read, again)), jax.tree.leaves((params, state)), strict=True):
        np.testing.assert_array_equal(x, y)
    fresh = import_schedule_free(tx, params, export_schedule_free(tx, params, tx.init(params)))[1]
    assert jax.tree.structure(fresh) == jax.tree.structure(state)
    group = saved["param_groups"][0]
    for odd, said in {"r": "r = 0", "k": "one number in all groups"}.items():
        other = {**group, odd: 1.0, "params": []}
        groups = [{**group, odd: 1.0}] if odd == "r" else [group, {**other, "k": 1}]
        with pytest.raises(jopt.CheckpointError, match=said):
            import_schedule_free(tx, params, {**saved, "param_groups": groups})
    with pytest.raises(jopt.CheckpointError, match=r"expected: jopt\.rmsprop or jopt\.adamw"):
        import_schedule_free(jopt.schedule_free(jopt.sgd(0.1), 0.1), params, saved)
    with pytest.raises(jopt.ConfigError, match="schedulefree has a class for"):
        import_schedule_free(jopt.adamw(), params, saved)
