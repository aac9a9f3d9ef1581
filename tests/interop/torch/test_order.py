"""Where torch goes by places, a mapping that knows no order is refused."""

import jax.numpy as jnp
import pytest
import torch

import jopt
from jopt.interop.torch import export_optimizer, flax_weights, import_optimizer

PARAMS = {"LayerNorm_0": {"bias": jnp.zeros(3), "scale": jnp.ones(3)}}
NAMES = ["LayerNorm_0.weight", "LayerNorm_0.bias"]


def trained():
    """A layer norm whose two leaves have one shape, and an optimizer that knows no names."""
    norm = torch.nn.LayerNorm(3)
    optimizer = torch.optim.AdamW(norm.parameters())
    (norm(torch.arange(6.0).reshape(2, 3)) ** 3).sum().backward()
    optimizer.step()
    return norm, optimizer


def test_a_file_without_names_needs_an_order():
    norm, optimizer = trained()
    tx, saved = jopt.adamw(), optimizer.state_dict()
    with pytest.raises(jopt.ConfigError) as caught:
        import_optimizer(tx, PARAMS, saved, flax_weights(PARAMS))
    text = str(caught.value)
    assert "the state dict has no names, and names= does not know torch's order" in text
    assert "flax_weights(params, order=model.state_dict())" in text
    names = flax_weights(PARAMS, order=NAMES)
    state = import_optimizer(tx, PARAMS, saved, names)
    for leaf, theirs in (("scale", norm.weight), ("bias", norm.bias)):
        moment = optimizer.state[theirs]["exp_avg"].numpy()
        assert (state["adamw"]["mu"]["LayerNorm_0"][leaf] == moment).all()


def test_an_export_needs_an_order():
    norm, optimizer = trained()
    tx, names = jopt.adamw(), flax_weights(PARAMS, order=NAMES)
    state = import_optimizer(tx, PARAMS, optimizer.state_dict(), names)
    with pytest.raises(jopt.ConfigError, match="load_state_dict goes by places, and names= does"):
        export_optimizer(tx, PARAMS, state, flax_weights(PARAMS))
    written = export_optimizer(tx, PARAMS, state, names)
    assert written["param_groups"][0]["param_names"] == NAMES
    assert torch.equal(written["state"][0]["exp_avg"], optimizer.state[norm.weight]["exp_avg"])


def test_an_order_has_every_name_and_may_have_more():
    with pytest.raises(jopt.ConfigError) as caught:
        flax_weights(PARAMS, order=NAMES[:1])
    assert "order= lacks names\n  expected: LayerNorm_0.bias" in str(caught.value)
    assert [w.name for w in flax_weights(PARAMS, order=["x", *NAMES]).values()] == NAMES
