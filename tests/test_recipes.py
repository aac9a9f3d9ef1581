"""Which parameters of real modules the recipes send where, and with which numbers."""

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jopt
from jopt.recipes import muon_adamw


def shapes(module, *args):
    return jax.eval_shape(module.init, jax.random.key(0), *args)["params"]


def matrices(params, **settings):
    """The paths of what goes to Muon."""
    routes = jopt.routing(muon_adamw(**settings), params)
    return {path for path, name in routes.items() if name == "matrices"}


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        h = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(h, h)
        gain = self.param("alpha", nn.initializers.ones, (8,))
        h = nn.relu(nn.Dense(16, name="up")(nn.RMSNorm()(x)))
        return x + gain[None, None] * nn.Dense(8, name="heads_mix")(h), None


class Model(nn.Module):
    stacked: bool

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(11, 8, name="tok")(tokens)
        x = x + self.param("pos_embedding", nn.initializers.normal(), (5, 8))[None]
        once = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 3}
        block = nn.scan(Block, **once) if self.stacked else Block
        x, _ = block(name="block")(x, None)
        return nn.Dense(11, name="lm_head")(nn.Dense(8, name="pooler")(x))


TOKENS = jnp.zeros((2, 5), jnp.int32)
ATTENTION = "block/MultiHeadDotProductAttention_0"
WIDE = {"block/up/kernel", "block/heads_mix/kernel"}


def lines(params, **settings):
    """What goes to Muon otherwise than as it is, and as what."""
    routes = jopt.routing(muon_adamw(**settings), params)
    return {k: v.removeprefix("matrices: ") for k, v in routes.items() if ":" in v}


def attention(layers=""):
    """Each kernel of an attention, and which matrix it is."""
    inward = dict.fromkeys(("query", "key", "value"), f"{layers}d (heads k)")
    return {
        f"{ATTENTION}/{k}/kernel": line
        for k, line in {**inward, "out": f"{layers}(heads k) d"}.items()
    }


def unclear(params, **settings):
    """The parameters that the recipe refuses to place, with their shapes."""
    with pytest.raises(jopt.GroupError) as error:
        muon_adamw(**settings).init(params)
    told = str(error.value).splitlines()
    assert told[0].startswith("muon_adamw: these may be stacks of layers, heads or filters")
    assert told[-1].startswith('  Say which AdamW is to have: also_adamw="Conv|Attention"')
    return {line.split()[0] for line in told[1:-1]}


def test_a_transformer_block():
    params = shapes(Model(stacked=False), TOKENS)
    assert params["block"]["MultiHeadDotProductAttention_0"]["query"]["bias"].shape == (2, 4)
    assert lines(params) == attention()
    assert matrices(params) == {*WIDE, "pooler/kernel"}
    assert lines(params, also_adamw="Attention_0") == {}


def test_blocks_stacked_by_scan():
    params = shapes(Model(stacked=True), TOKENS)
    assert params["block"]["LayerNorm_0"]["scale"].shape == (3, 8)
    assert lines(params) == attention("layer ") | dict.fromkeys(WIDE, "layer i o")
    assert matrices(params) == {"pooler/kernel"}  # and of `alpha` each layer has a vector
    assert lines(params, also_adamw="^block/") == {}
    assert matrices(params, also_adamw="kernel$", also_muon="alpha") == {"block/alpha"}


def test_a_stack_trains_as_its_layers_by_the_recipe():
    params = shapes(Model(stacked=True), TOKENS)
    rng = np.random.default_rng(0)

    def values():
        return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)

    p, g = values(), values()
    tx = muon_adamw(0.1, weight_decay=0.0)
    updates = jax.jit(lambda p, g: tx.update(g, tx.init(p), p)[0])(p, g)
    of, given = updates["block"], g["block"]
    module = ATTENTION.removeprefix("block/")
    query, out = of[module]["query"]["kernel"], of[module]["out"]["kernel"]
    seen = {
        "query": given[module]["query"]["kernel"].reshape(3, 8, 8),
        "out": given[module]["out"]["kernel"].reshape(3, 8, 8),
        "up": given["up"]["kernel"],
    }
    found = {"query": query.reshape(3, 8, 8), "out": out.reshape(3, 8, 8), "up": of["up"]["kernel"]}
    layers = {f"{k}{i}": x[i] for k, x in seen.items() for i in range(3)}
    one = jopt.muon(0.1, weight_decay=0.0, kernels="in_out")
    wanted = jax.jit(lambda g: one.update(g, one.init(g), g)[0])(layers)
    for name, x in wanted.items():
        np.testing.assert_allclose(found[name[:-1]][int(name[-1])], x, rtol=0, atol=1e-6)


def test_convolutions():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.GroupNorm(2)(nn.Conv(4, (3, 3), name="stem_conv")(x))
            x = nn.Conv(4, (3, 3), feature_group_count=4)(nn.ConvTranspose(4, (2, 2))(x))
            x = nn.ConvLocal(2, (1, 1))(x)
            return nn.Dense(10)(nn.DenseGeneral((2, 3))(x).reshape(len(x), -1))

    params = shapes(Net(), jnp.zeros((1, 4, 4, 3)))
    assert unclear(params) == {"ConvLocal_0/kernel", "DenseGeneral_0/kernel"}
    asked = {"axes": {"General.*kernel": "d (a b)"}, "also_adamw": "Local"}
    filters = dict.fromkeys(("stem_conv/kernel", "ConvTranspose_0/kernel"), "(h w i) o")
    assert lines(params, **asked) == {"DenseGeneral_0/kernel": "d (a b)", **filters}
    assert matrices(params, **asked) == {"Dense_0/kernel"}  # depthwise filters are none


def test_nnx_modules():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 4, rngs=rngs)
            self.embed = nnx.Embed(7, 3, rngs=rngs)
            self.norm = nnx.LayerNorm(4, rngs=rngs)
            self.conv = nnx.Conv(3, 4, (3,), rngs=rngs)
            self.attend = nnx.MultiHeadAttention(num_heads=2, in_features=4, rngs=rngs)
            self.lora = nnx.LoRA(3, 2, 4, rngs=rngs)

    params = nnx.state(nnx.eval_shape(lambda: Net(nnx.Rngs(0))), nnx.Param)
    heads = {f"attend/{k}/kernel": "d (heads k)" for k in ("query", "key", "value")}
    assert lines(params) == {
        "conv/kernel": "(w i) o",
        "attend/out/kernel": "(heads k) d",
        **heads,
    }
    assert matrices(params) == {"linear/kernel", "lora/lora_a", "lora/lora_b"}


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        # Dense layers called as attention is, in a stack; attention with as many heads as inputs.
        (dict.fromkeys(("query", "key", "value", "out"), ((3, 4, 4), (3, 4))), "layer i o"),
        (
            dict.fromkeys(("query", "key", "value"), ((4, 4, 2), (4, 2)))
            | {"out": ((4, 2, 4), (4,))},
            "",
        ),
        # A map from three inputs to three by two outputs, or three maps from three to two.
        ({"mix": ((3, 3, 2), (3, 2))}, None),
        ({"mix": ((2, 3, 4, 5), (2, 3, 5))}, "layer0 layer1 i o"),
        ({"conv": ((2, 3, 3, 4, 5), (2, 5))}, "layer (h w i) o"),
        ({"conv": ((3, 3, 4, 5), None), "conv2": ((3, 3, 5, 6), None)}, None),
    ],
)
def test_what_names_and_shapes_leave_open(tree, found):
    modules = {
        name: {"kernel": jnp.ones(kernel)} | ({} if bias is None else {"bias": jnp.ones(bias)})
        for name, (kernel, bias) in tree.items()
    }
    params = {"net": modules, "w": jnp.ones((2, 2))}
    kernels = {f"net/{name}/kernel" for name in tree}
    if found is None:
        assert unclear(params) == kernels
        return
    told = lines(params)
    assert told.keys() == kernels
    heads = {"query": "d (heads k)", "out": "(heads k) d"}
    assert all(
        line == (found or heads["out" if "/out/" in path else "query"])
        for path, line in told.items()
    )


def test_equinox_modules():
    key = jax.random.key(0)
    layers = [
        equinox.nn.Linear(3, 4, key=key),
        equinox.nn.LayerNorm((3, 4)),
        equinox.nn.MultiheadAttention(2, 8, key=key),
        equinox.nn.GRUCell(3, 4, key=key),
    ]
    found = matrices(equinox.filter(layers, equinox.is_array))
    projections = {f"2/{k}_proj/weight" for k in ("query", "key", "value", "output")}
    assert found == {"0/weight", *projections, "3/weight_ih", "3/weight_hh"}


HAIKU = {
    "lm/~/embed": {"embeddings": jnp.ones((9, 4))},
    "lm/~/linear": {"w": jnp.ones((4, 8)), "b": jnp.ones(8)},
    "lm/~/layer_norm": {"scale": jnp.ones(8), "offset": jnp.ones(8)},
    "lm/~/lm_head": {"w": jnp.ones((8, 9))},
}


def test_haiku_names():
    assert matrices(HAIKU) == {"lm~1~0~1linear/w"}
    assert matrices(HAIKU, exclude="none") == {"lm~1~0~1linear/w", "lm~1~0~1lm_head/w"}
    assert matrices(HAIKU, exclude="lm/linear|lm_head", also_muon="embed") == {
        "lm~1~0~1embed/embeddings"
    }


@pytest.mark.parametrize(
    ("key", "output"),
    [
        *(
            (k, True)
            for k in ("head", "lm_head", "LMHead_0", "Head", "mlp_head", "logits", "lm_out")
        ),
        *(
            (k, False)
            for k in ("heads", "heads_mix", "MultiHead_0", "overhead", "head_mix", "ahead")
        ),
    ],
)
def test_heads_are_told_by_whole_keys(key, output):
    params = {"w": jnp.ones((2, 3)), key: {"kernel": jnp.ones((2, 3))}}
    assert matrices(params) == ({"w"} if output else {"w", f"{key}/kernel"})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"also_adamw": "cnov"}, "also_adamw matches no leaf"),
        ({"also_muon": "cnov"}, "also_muon matches no leaf"),
        ({"also_adamw": "w$", "also_muon": "^w"}, "both match\n  at:       w"),
        ({"also_adamw": "w$"}, "matches no leaf\n  expected: a leaf that Matrices"),
        ({"also_muon": "b$"}, "2 axes only\n  at:       b"),
    ],
)
def test_choices_that_do_not_fit(settings, text):
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    with pytest.raises(jopt.JoptError, match=text.replace("(", r"\(")):
        muon_adamw(**settings).init(params)


def test_a_predicate_says_it_too():
    params = {"w": jnp.ones((2, 3)), "conv": jnp.ones((2, 3, 3))}
    assert matrices(params, also_adamw=lambda path, leaf: len(leaf.shape) > 2) == {"w"}


def rates(tx, params, steps=3):
    state, seen = tx.init(params), []
    for _ in range(steps):
        _, state = tx.update(params, state, params)
        now = jopt.hyperparams(state)
        seen.append([now[f"route/{k}"]["default"]["learning_rate"] for k in ("muon", "adamw")])
    return np.asarray(seen)


def test_one_schedule_for_both():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    fall = jopt.schedules.linear(0.1, 0.0, 4)
    muon, adamw = rates(muon_adamw(fall, adamw_ratio=0.25), params).T
    np.testing.assert_allclose(adamw, 0.25 * muon, rtol=1e-6)
    assert len({*muon.tolist()}) == 3
    assert rates(muon_adamw(0.5, adamw_ratio=0.25), params)[0].tolist() == [0.5, 0.125]
    assert rates(muon_adamw(0.5), params)[0].tolist() == [0.5, np.float32(3e-4)]
    assert rates(muon_adamw(0.5, adamw_learning_rate=0.25), params)[0].tolist() == [0.5, 0.25]


def test_a_traced_rate_is_coupled_too():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}

    def step(rate):
        tx = muon_adamw(rate, adamw_ratio=0.5, weight_decay=0.0)
        return tx.update(params, tx.init(params), params)[0]["b"]

    np.testing.assert_allclose(jax.jit(step)(jnp.float32(0.2)), -0.1, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"adamw_ratio": 0.1, "adamw_learning_rate": 0.1}, "AdamW has a learning rate twice"),
        ({"adamw_ratio": -1.0}, "adamw_ratio is a number"),
        ({"adamw_ratio": True}, "adamw_ratio is a number"),
        ({"adamw_ratio": 0.1, "learning_rate": jopt.schedules.plateau(0.1)}, "with a memory"),
        ({"exclude": "("}, "no regular expression"),
    ],
)
def test_bad_arguments(settings, text):
    with pytest.raises(jopt.ConfigError, match=text):
        muon_adamw(**settings)
