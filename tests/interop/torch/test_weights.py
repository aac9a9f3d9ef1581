"""Parameters across the border: the same model gives the same output, and every bit comes back."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import jopt
from jopt.interop.torch import Weight, export_params, flax_weights, import_params

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.fixture
def double(x64):
    """float64; flax makes float32 parameters first, and adds them to what it was given."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def channels_first(x):
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy())


def channels_last(y):
    return np.moveaxis(y.detach().numpy(), 1, -1)


def same(x):
    return torch.from_numpy(x)


def back(y):
    return y.detach().numpy()


# flax module, torch module, shape of the input, how torch wants it, how it gives the output
LAYERS = {
    "Dense": (nn.Dense(5), torch.nn.Linear(4, 5), (2, 4), same, back),
    "Conv1d": (
        nn.Conv(6, (3,), padding="VALID"),
        torch.nn.Conv1d(4, 6, 3),
        (2, 8, 4),
        channels_first,
        channels_last,
    ),
    "Conv2d": (
        nn.Conv(6, (3, 2), padding="VALID"),
        torch.nn.Conv2d(4, 6, (3, 2)),
        (2, 7, 8, 4),
        channels_first,
        channels_last,
    ),
    "Conv2d grouped": (
        nn.Conv(6, (3, 2), padding="VALID", feature_group_count=2),
        torch.nn.Conv2d(4, 6, (3, 2), groups=2),
        (2, 7, 8, 4),
        channels_first,
        channels_last,
    ),
    "Conv3d": (
        nn.Conv(3, (2, 2, 3), padding="VALID", use_bias=False),
        torch.nn.Conv3d(2, 3, (2, 2, 3), bias=False),
        (1, 4, 3, 5, 2),
        channels_first,
        channels_last,
    ),
    "LayerNorm": (nn.LayerNorm(epsilon=1e-5), torch.nn.LayerNorm(4), (3, 4), same, back),
    "RMSNorm": (nn.RMSNorm(epsilon=1e-5), torch.nn.RMSNorm(4, eps=1e-5), (3, 4), same, back),
    "GroupNorm": (
        nn.GroupNorm(2, epsilon=1e-5),
        torch.nn.GroupNorm(2, 4),
        (3, 5, 4),
        channels_first,
        channels_last,
    ),
}


def randomized(module):
    """The torch module in float64, no number in it at its default."""
    module = module.double()
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = torch.from_numpy(RNG.uniform(0.5, 1.5, tuple(tensor.shape)))
    return module


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_torchs_output(name, double):
    flax_layer, torch_layer, shape, there, here = LAYERS[name]
    torch_layer, x = randomized(torch_layer), RNG.normal(size=shape)
    like = jax.eval_shape(lambda: flax_layer.init(KEY, jnp.asarray(x)))["params"]
    like = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, jnp.float64), like)
    params = import_params(like, torch_layer.state_dict())
    ours = flax_layer.apply({"params": params}, x)
    np.testing.assert_allclose(ours, here(torch_layer(there(x))), rtol=1e-12, atol=1e-12)
    again = export_params(params)
    for key, tensor in torch_layer.state_dict().items():
        assert torch.equal(again[key], tensor)


def test_an_embedding_gives_torchs_output():
    module, ids = torch.nn.Embedding(7, 3), np.array([[0, 6], [3, 3]])
    layer = nn.Embed(7, 3)
    params = import_params(layer.init(KEY, ids)["params"], module.state_dict())
    assert np.array_equal(layer.apply({"params": params}, ids), module(torch.from_numpy(ids)).data)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(3, (2, 2), padding="VALID")(x)))
        x = nn.relu(nn.Dense(6)(x.mean((1, 2))))
        return nn.LayerNorm(epsilon=1e-5)(nn.Dense(2)(x))


def test_a_whole_linen_model_with_batch_statistics(double):
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 2),
        torch.nn.BatchNorm2d(3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(3, 6),
        torch.nn.ReLU(),
        torch.nn.Linear(6, 2),
        torch.nn.LayerNorm(2),
    )
    module, x = randomized(module).eval(), RNG.normal(size=(4, 5, 5, 2))
    places = {"Conv_0": 0, "BatchNorm_0": 1, "Dense_0": 5, "Dense_1": 7, "LayerNorm_0": 8}
    rename = {rf"^{name}\.": f"{place}." for name, place in places.items()}
    like = Net(parent=None).init(KEY, jnp.asarray(x))
    like = jax.tree.map(lambda a: a.astype(jnp.float64), like)
    names = flax_weights(like, rename=rename)
    assert names["batch_stats/BatchNorm_0/var"] == Weight("1.running_var")
    variables = import_params(like, module.state_dict(), names)
    np.testing.assert_allclose(
        Net().apply(variables, x), back(module(channels_first(x))), rtol=1e-12, atol=1e-12
    )
    fresh = torch.nn.Sequential(*[type(m)(*_arguments(m)) for m in module]).double().eval()
    fresh.load_state_dict(export_params(variables, names))
    assert torch.equal(fresh(channels_first(x)), module(channels_first(x)))


def _arguments(m):
    return {
        torch.nn.Conv2d: (2, 3, 2),
        torch.nn.BatchNorm2d: (3,),
        torch.nn.AdaptiveAvgPool2d: (1,),
        torch.nn.LayerNorm: (2,),
    }.get(type(m), (m.in_features, m.out_features) if isinstance(m, torch.nn.Linear) else ())


class Small(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(5, 4, param_dtype=jnp.float64, rngs=rngs)  # it keeps to this dtype
        self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)])
        self.norm = nnx.LayerNorm(3, epsilon=1e-5, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = jnp.tanh(block(x))
        return self.norm(x)


class SmallTorch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 3)])
        self.norm = torch.nn.LayerNorm(3)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.norm(x)


def test_an_nnx_model_whose_modules_have_torchs_names(double):
    module, ids = randomized(SmallTorch()), np.array([0, 2, 4])
    model = Small(nnx.Rngs(0))
    like = jax.tree.map(lambda a: a.astype(jnp.float64), nnx.state(model, nnx.Param))
    prefixed = {f"module.{k}": v for k, v in module.state_dict().items()}
    params = import_params(like, prefixed, flax_weights(like, prefix="module."))
    assert jax.tree.structure(params) == jax.tree.structure(like)
    nnx.update(model, params)
    want = back(module(torch.from_numpy(ids)))
    np.testing.assert_allclose(model(ids), want, rtol=1e-12, atol=1e-12)


def test_convtranspose_with_a_transposed_kernel_is_a_permutation_and_other_ones_are_not(double):
    x = RNG.normal(size=(1, 6, 3))
    module = randomized(torch.nn.ConvTranspose1d(3, 4, 2, stride=2))
    layer = nn.ConvTranspose(4, (2,), (2,), padding="VALID", transpose_kernel=True)
    like = jax.tree.map(lambda a: a.astype(jnp.float64), layer.init(KEY, jnp.asarray(x))["params"])
    names = {"kernel": Weight("weight", (2, 1, 0)), "bias": "bias"}
    params = import_params(like, module.state_dict(), names)
    np.testing.assert_allclose(
        layer.apply({"params": params}, x), channels_last(module(channels_first(x))), rtol=1e-12
    )
    named = {"ConvTranspose_0": like}
    with pytest.raises(jopt.ConfigError, match="ConvTranspose_0/kernel: a ConvTranspose kernel"):
        flax_weights(named)
    own = {"ConvTranspose_0/kernel": Weight("up.weight", (2, 1, 0))}
    assert flax_weights(named, given=own) == own | {
        "ConvTranspose_0/bias": Weight("ConvTranspose_0.bias")
    }


def shapes(module, *inputs):
    return jax.eval_shape(lambda: module.init(KEY, *inputs))["params"]


X = jnp.ones((1, 8, 4))
REFUSED = {
    "attention": (nn.MultiHeadDotProductAttention(2), "query/kernel: attention with heads"),
    "DenseGeneral": (nn.DenseGeneral((2, 3)), r"kernel: a DenseGeneral, \(4, 2, 3\)"),
    "LSTM": (nn.RNN(nn.OptimizedLSTMCell(3)), "cell/hf/kernel: a gate of a recurrent cell"),
    "GRU": (nn.RNN(nn.GRUCell(3)), "cell/ir/kernel: a gate of a recurrent cell"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_permutation_is_refused(name):
    module, text = REFUSED[name]
    params = shapes(module, X, X) if name == "attention" else shapes(module, X)
    with pytest.raises(jopt.ConfigError, match=text) as error:
        flax_weights(params)
    assert str(error.value).startswith(
        "flax_weights: these are no permutation of one tensor of torch's:\n"
    )


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        return x + nn.Dense(4, use_bias=False)(nn.LayerNorm()(x)), None


def test_layers_stacked_by_scan_are_refused():
    over = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}, "length": 3}
    params = {"blocks": shapes(nn.scan(Scanned, **over)(), X, None)}
    with pytest.raises(jopt.ConfigError, match="Dense_0/kernel: of a stack of layers") as error:
        flax_weights(params)  # by its axes the kernel could be a Conv's
    assert str(error.value).count(": of a stack") == len(jax.tree.leaves(params)) == 3
    assert flax_weights({"Conv_0": {"kernel": jnp.ones((3, 3, 4))}})["Conv_0/kernel"].axes


@pytest.mark.parametrize("cell", [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell])
def test_recurrent_cells_of_nnx_are_refused(cell):
    params = nnx.state(cell(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    with pytest.raises(jopt.ConfigError, match="a gate of a recurrent cell") as error:
        flax_weights(params)
    assert str(error.value).count(": a gate") == len(jax.tree.leaves(params))


def test_a_renaming_by_function_and_one_that_makes_two_names_one():
    params = {"a": {"scale": jnp.ones(2)}, "b": {"scale": jnp.ones(2)}}
    assert flax_weights(params, rename=str.upper)["a/scale"] == Weight("A.WEIGHT")
    with pytest.raises(jopt.ConfigError, match=r"two parameters have torch's name 'x\.weight'"):
        flax_weights(params, rename={"^[ab]": "x"})


def test_bfloat16_and_eight_bit_floats_keep_every_bit():
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    tensor = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    like = {"kernel": jax.ShapeDtypeStruct((256, 256), jnp.bfloat16)}
    got = import_params(like, {"weight": tensor})
    assert np.array_equal(np.asarray(got["kernel"]).T.view(np.uint16), bits)
    assert torch.equal(export_params(got)["weight"].view(torch.int16), tensor.view(torch.int16))
    small = torch.arange(8, dtype=torch.float32).to(torch.float8_e4m3fn)
    like = {"x": jax.ShapeDtypeStruct((8,), jnp.float8_e4m3fn)}
    got = import_params(like, {"x": small})
    assert torch.equal(export_params(got)["x"].view(torch.uint8), small.view(torch.uint8))


def test_imported_and_exported_numbers_alias_nothing():
    tensor = torch.zeros(2, 2)
    params = import_params({"x": np.zeros((2, 2), np.float32)}, {"x": tensor})
    out = export_params(params)
    tensor += 1
    params["x"] += 2
    assert out["x"].sum() == 0
    assert tensor.sum() == 4
    assert params["x"].sum() == 8


def test_every_difference_is_told_at_once():
    like = {"fc": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "scale": jnp.ones(2)}
    given = {
        "fc.weight": torch.ones(2, 3),
        "fc.bias": torch.ones(3, dtype=torch.float16),
        "num_batches_tracked": torch.tensor(3),
        "head.bias": torch.ones(1),
    }
    text = """import_params: torch's tensors do not fit: 4 differences
  dtype       fc.bias: expected float32 for fc/bias, found float16
  shape       fc.weight: expected (3, 2) for fc/kernel, found (2, 3)
  missing     weight: expected float32 (2,) for scale
  left over   head.bias: no parameter has this name
  Nothing was imported. cast=True converts dtypes."""
    with pytest.raises(jopt.CheckpointError, match=f"^{re.escape(text)}$"):
        import_params(like, given)
    given |= {"weight": torch.ones(2), "fc.weight": torch.ones(3, 2)}
    got = import_params(like, given, cast=True, ignore="head|num_batches")
    assert got["fc"]["bias"].dtype == jnp.float32


def test_names_must_be_the_parameters():
    like = {"a": jnp.ones(2), "b": jnp.ones(2)}
    with pytest.raises(jopt.ConfigError, match=r"no name for a parameter\n  at:       b"):
        import_params(like, {}, {"a": "x"})
    with pytest.raises(jopt.ConfigError, match=r"no such parameter\n  at:       c"):
        export_params(like, {"a": "x", "b": "y", "c": "z"})
    with pytest.raises(jopt.ConfigError, match=r"axes of 'w' are no permutation"):
        Weight("w", (0, 2))
    with pytest.raises(jopt.ConfigError, match=r"expected: 1 axes\n  found:    \(1, 0\)"):
        export_params({"a": jnp.ones(2)}, {"a": Weight("w", (1, 0))})
    with pytest.raises(jopt.ConfigError, match=r"given= has no such parameter\n  found:    c/d"):
        flax_weights(like, given={"c/d": "x"})
    with pytest.raises(jopt.CheckpointError, match=r"a sparse tensor, torch.sparse_coo"):
        import_params({"a": jnp.ones(2)}, {"a": torch.ones(2).to_sparse()})
