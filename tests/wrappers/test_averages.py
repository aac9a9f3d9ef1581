"""Averages of the parameters: against torch's swa_utils, and through chains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

import jopt

SHAPES = {"b": (3,), "w": (4, 3)}


def data(steps=40):
    rng = np.random.default_rng(0)
    draw = lambda: {k: rng.normal(size=s) for k, s in SHAPES.items()}  # noqa: E731
    return draw(), [draw() for _ in range(steps)]


def in_torch(params, grads, multi_avg_fn, taken):
    module = torch.nn.Module()
    for k, v in params.items():
        module.register_parameter(k, torch.nn.Parameter(torch.tensor(v)))
    averaged = AveragedModel(module, multi_avg_fn=multi_avg_fn)
    opt = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    for t, g in enumerate(grads, 1):
        for k, p in module.named_parameters():
            p.grad = torch.tensor(g[k])
        opt.step()
        if taken(t):
            averaged.update_parameters(module)
    return {k: p.detach().numpy() for k, p in averaged.module.named_parameters()}


def in_jopt(params, grads, tx):
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)

    @jax.jit
    def step(g, s, p):
        u, s = tx.update(g, s, p)
        return jopt.apply_updates(p, u), s

    for g in grads:
        params, state = step(g, state, params)
    return jopt.eval_params(state, params), params, state


def assert_close(a, b, rtol=1e-12):
    for k in SHAPES:
        np.testing.assert_allclose(a[k], b[k], rtol=rtol, atol=rtol * 1e-2)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999, 1.0])
def test_ema_is_torchs(decay, x64):
    params, grads = data()
    tx = jopt.ema(jopt.sgd(0.1, 0.9), decay=decay)
    theirs = in_torch(params, grads, get_ema_multi_avg_fn(decay), lambda t: True)
    assert_close(in_jopt(params, grads, tx)[0], theirs)


@pytest.mark.parametrize(("start", "every"), [(0, 1), (10, 1), (10, 5), (7, 4), (39, 3)])
def test_swa_is_torchs(start, every, x64):
    params, grads = data()
    tx = jopt.swa(jopt.sgd(0.1, 0.9), start=start, every=every)
    taken = lambda t: t > start and (t - start - 1) % every == 0  # noqa: E731
    theirs = in_torch(params, grads, get_swa_multi_avg_fn(), taken)
    # torch's weight 1 / (n + 1) is a float32 tensor, whatever the parameters are.
    assert_close(in_jopt(params, grads, tx)[0], theirs, rtol=3e-7)


@pytest.mark.parametrize(("start", "every"), [(0, 1), (10, 5), (7, 4)])
def test_swa_is_the_mean(start, every, x64):
    params, grads = data()
    path = {k: [] for k in SHAPES}
    for t in range(1, len(grads) + 1):
        _, now, _ = in_jopt(params, grads[:t], jopt.sgd(0.1))
        if t > start and (t - start - 1) % every == 0:
            for k in SHAPES:
                path[k].append(np.asarray(now[k]))
    average, _, _ = in_jopt(params, grads, jopt.swa(jopt.sgd(0.1), start=start, every=every))
    assert_close(average, {k: np.mean(path[k], axis=0) for k in SHAPES})


def test_before_its_start_the_average_is_the_parameters():
    params, grads = data(5)
    average, now, _ = in_jopt(params, grads, jopt.swa(jopt.sgd(0.1), start=100))
    jax.tree.map(np.testing.assert_array_equal, average, now)


def test_the_optimizer_is_not_disturbed():
    params, grads = data(10)
    _, plain, _ = in_jopt(params, grads, jopt.adamw(0.1))
    _, followed, _ = in_jopt(params, grads, jopt.ema(jopt.adamw(0.1)))
    jax.tree.map(np.testing.assert_array_equal, plain, followed)


def test_through_a_chain_and_with_groups():
    params, grads = data(10)
    inner = jopt.adamw(0.1, groups={"still": jopt.group("^b$", freeze=True)})
    tx = jopt.chain(jopt.clip_by_global_norm(1.0), jopt.ema(inner, decay=0.5))
    average, now, state = in_jopt(params, grads, tx)
    assert sorted(state) == ["adamw", "clip_by_global_norm", "ema"]
    np.testing.assert_array_equal(average["b"], now["b"])
    assert not np.array_equal(average["w"], now["w"])


def test_decay_is_data():
    params, grads = data(5)
    tx = jopt.ema(jopt.sgd(0.1), decay=0.9)
    state = jopt.set_hyperparams(tx.init(params), label="ema", decay=0.0)
    params = jax.tree.map(jnp.asarray, params)
    for g in grads:
        u, state = tx.update(jax.tree.map(jnp.asarray, g), state, params)
        params = jopt.apply_updates(params, u)
    got = jopt.eval_params(state, params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, params)


def test_half_precision_averages_in_float32_and_comes_back_in_half():
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    tx = jopt.ema(jopt.sgd(1e-3), decay=0.5)
    u, state = tx.update({"w": jnp.ones(3, jnp.bfloat16)}, tx.init(params), params)
    assert state["ema"]["average"]["w"].dtype == jnp.float32
    np.testing.assert_allclose(state["ema"]["average"]["w"], 0.999, rtol=1e-6)
    assert jopt.eval_params(state, jopt.apply_updates(params, u))["w"].dtype == jnp.bfloat16


def test_state_and_parameters_can_be_donated_together():
    params = {"w": jnp.ones(3)}
    tx = jopt.ema(jopt.sgd(0.1))
    state = tx.init(params)
    step = jax.jit(lambda g, s, p: tx.update(g, s, p), donate_argnums=(1, 2))
    step({"w": jnp.ones(3)}, state, params)


def test_no_average_gives_the_parameters():
    params = {"w": jnp.ones(3)}
    assert jopt.eval_params(jopt.sgd().init(params), params) is params


def test_several_averages_want_a_label():
    params = {"w": jnp.ones(3)}
    state = jopt.swa(jopt.ema(jopt.sgd())).init(params)
    with pytest.raises(jopt.ConfigError, match="several averages are kept\n  found:    ema, swa"):
        jopt.eval_params(state, params)
    with pytest.raises(jopt.ConfigError, match="no average is kept by 'mean'"):
        jopt.eval_params(state, params, label="mean")
    assert jopt.eval_params(state, params, label="ema")["w"].shape == (3,)


def test_an_average_of_other_parameters():
    state = jopt.ema(jopt.sgd()).init({"w": jnp.ones(3)})
    with pytest.raises(jopt.StateError, match=r"another shape than its parameter\n  at:       w"):
        jopt.eval_params(state, {"w": jnp.ones(4)})


@pytest.mark.parametrize("bad", [{"start": -1}, {"every": 0}, {"every": 1.5}])
def test_swa_takes_whole_steps(bad):
    with pytest.raises(jopt.ConfigError, match=f"swa: {next(iter(bad))} is a number of steps"):
        jopt.swa(jopt.sgd(), **bad)
