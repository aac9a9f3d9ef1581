"""A run that is moved in the middle of a round of micro-batches."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jopt
from jopt.interop.torch import Weight, export_optimizer, import_optimizer

PARAMS = {"b": np.ones(2), "w": np.arange(6.0).reshape(2, 3)}
GRADS = [
    {k: np.random.default_rng((t, len(k), v.ndim)).normal(size=v.shape) for k, v in PARAMS.items()}
    for t in range(9)
]
EVERY = 3


def tree(arrays):
    return {k: jnp.asarray(v) for k, v in arrays.items()}


def run(tx, params, state, steps):
    for t in steps:
        updates, state = tx.update(tree(GRADS[t]), state, params)
        params = jopt.apply_updates(params, updates)
    return params, state


def in_torch(params, saved, steps):
    """torch's usual loop: each loss is divided by the length of the round."""
    leaves = [torch.tensor(np.asarray(params[k])).requires_grad_() for k in PARAMS]
    optimizer = torch.optim.AdamW(leaves)
    optimizer.load_state_dict(copy.deepcopy(saved))
    for i, p in enumerate(leaves):
        if i in saved.get("grads", {}):
            p.grad = saved["grads"][i]
    for t in steps:
        loss = sum(
            (p * torch.tensor(GRADS[t][k])).sum() for k, p in zip(PARAMS, leaves, strict=True)
        )
        (loss / EVERY).backward()
        if t % EVERY == EVERY - 1:
            optimizer.step()
            optimizer.zero_grad()
    grads = {i: p.grad for i, p in enumerate(leaves) if p.grad is not None}
    return leaves, {**optimizer.state_dict(), "grads": grads, "micro": steps.stop % EVERY}


def close(ours, theirs):
    for k, p in zip(PARAMS, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(ours[k]), p.detach().numpy(), rtol=1e-13, atol=1e-13)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("around", [False, True])
def test_a_round_goes_on_in_torch_and_back(around):
    tx = jopt.accumulate(jopt.adamw(0.1), every=EVERY)
    if around:
        tx = jopt.chain(jopt.ema(tx, decay=0.9))
    start = tree(PARAMS)
    params, state = run(tx, start, tx.init(start), range(4))
    saved = export_optimizer(tx, params, state, mid_round=True)
    assert (saved["micro"], sorted(saved["grads"])) == (1, [0, 1])
    theirs, back = in_torch(params, saved, range(4, 8))
    ours, want = run(tx, params, state, range(4, 8))
    close(ours, theirs)
    # And from the middle of torch's next round here again.
    here = {k: jnp.asarray(p.detach().numpy()) for k, p in zip(PARAMS, theirs, strict=True)}
    again = import_optimizer(tx, here, back)
    end, _ = run(tx, here, again, range(8, 9))
    close(run(tx, ours, want, range(8, 9))[0], [torch.tensor(np.asarray(end[k])) for k in PARAMS])


def test_what_would_be_lost_is_said():
    tx = jopt.accumulate(jopt.adamw(0.1), every=EVERY)
    params, state = run(tx, tree(PARAMS), tx.init(tree(PARAMS)), range(5))
    text = (
        r"middle of a round, and a state dict of torch's has no place for its gradients\n"
        r"  at:       accumulate\n"
        r"  expected: the end of a round\n"
        r"  found:    the sum of 2 of 3 gradients, of b, w\n"
        r"  Export after the step \(flush=True ends a round early\), or with mid_round=True"
    )
    with pytest.raises(jopt.CheckpointError, match=text):
        export_optimizer(tx, params, state)
    params, state = run(tx, params, state, range(5, 6))
    saved = export_optimizer(tx, params, state)
    assert set(saved) == {"state", "param_groups"}
    whole = export_optimizer(tx, params, state, mid_round=True)
    assert (whole["grads"], whole["micro"]) == ({}, 0)


def test_turned_axes_and_narrow_parameters():
    tx = jopt.accumulate(jopt.sgd(0.1, momentum=0.9), every=EVERY)
    params = {k: v.astype(jnp.bfloat16) for k, v in tree(PARAMS).items()}
    _, state = run(tx, params, tx.init(params), range(2))
    names = {"w": Weight("lin.weight", (1, 0)), "b": "lin.bias"}
    saved = export_optimizer(tx, params, state, names, mid_round=True)
    assert [saved["grads"][i].dtype for i in (0, 1)] == [torch.bfloat16] * 2
    total = np.asarray(state["accumulate"]["sum"]["w"])
    got = saved["grads"][0].float().numpy().T
    np.testing.assert_allclose(got, total / EVERY, rtol=2**-8)
    back = import_optimizer(tx, params, saved, names, count=0)["accumulate"]
    assert int(back["micro"]) == 2
    np.testing.assert_allclose(back["sum"]["w"], total, rtol=2**-8)
    jax.tree.map(lambda a, b: None, back, state["accumulate"])


@pytest.mark.parametrize(
    ("bent", "text"),
    [
        ({"micro": 3}, "micro: expected a number below 3, found 3"),
        ({"micro": "x"}, "micro: expected a number below 3, found str"),
        ({"grads": [1]}, "grads: expected a dict by parameter, found a list"),
        ({"grads": {0: np.ones(3)}}, r"grads: shape: expected \(2,\), found \(3,\)"),
        ({"grads": {0: "x"}}, "grads: expected an array, found str"),
    ],
)
def test_a_round_that_does_not_fit(bent, text):
    tx = jopt.accumulate(jopt.adamw(0.1), every=EVERY)
    params, state = run(tx, tree(PARAMS), tx.init(tree(PARAMS)), range(2))
    saved = export_optimizer(tx, params, state, mid_round=True)
    with pytest.raises(jopt.CheckpointError, match=text):
        import_optimizer(tx, params, {**saved, **bent})
    with pytest.raises(jopt.CheckpointError, match="tx has no accumulate"):
        import_optimizer(jopt.adamw(0.1), params, saved)
