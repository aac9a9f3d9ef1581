"""What leaves are by their names, in whole words, and by the shapes around them."""

import pytest

from jopt.core.leaf_kinds import kinds, runs, words


def kind_of(name, shape=(4, 8), **beside):
    tree = {name: shape, **{k.replace("__", "/"): v for k, v in beside.items()}}
    return kinds([*tree], [*tree.values()])[0]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("LayerNorm_0", ["layer", "norm"]),
        ("RMSNorm_0", ["rms", "norm"]),
        ("input_layernorm", ["input", "layernorm"]),
        ("AddPositionEmbs_0", ["add", "position", "embs"]),
        ("MultiHeadDotProductAttention_0", ["multi", "head", "dot", "product", "attention"]),
        ("ln_1", ["ln"]),
        ("0", []),
    ],
)
def test_words(key, found):
    assert words(key) == found


VECTORS = [
    "LayerNorm_0/bias", "Dense_0/bias", "attention/query/bias", "BatchNorm_0/scale", "mlp/in_bias",
    "linear/offset", "norm/gamma", "bn/beta", "rnn/bias_ih_l0", "cell/bias_n",
    "block/layer_scale_1", "ln_1/weight", "ln_f/weight", "norm1/weight", "input_layernorm/weight",
    "q_norm/weight", "RMSNorm_0/w", "GroupNorm_3/g", "norm_final/weight", "rms/weight", "block/ln1",
]  # fmt: skip
EMBEDDINGS = [
    "tok/embedding", "Embed_0/embedding", "pos_embedding", "TokenEmbed_0/table", "wte/weight",
    "embed_tokens/weight", "patch_embed/kernel", "AddPositionEmbs_0/pos", "embed/w",
    "unembed/kernel", "transformer~1~0~1embed/embeddings",
]  # fmt: skip
MATRICES = [
    "Dense_0/kernel", "layers/0/weight", "linear_1/w", "mlp/~0/w", "lora/lora_a", "lora/lora_b",
    "w1", "member/kernel", "remember/kernel", "ensemble/kernel", "assembly/kernel",
    "norm_proj/kernel",
    "enormous/w", "scaled_dense/kernel", "biased/kernel", "balance/w", "wtensor", "normal/kernel",
    "MultiHeadDotProductAttention_0/out_proj/kernel", "heads_mix/kernel", "hf/kernel", "b",
]  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("shape", [(4, 8), (3, 4, 8)])
def test_biases_and_scales_whatever_holds_them(name, shape):
    assert kind_of(name, shape) == "vector"


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_embeddings(name):
    assert kind_of(name) == kind_of(name, (2, 4, 8)) == "embedding"


@pytest.mark.parametrize("name", MATRICES)
def test_matrices(name):
    assert kind_of(name) == "matrix"
    assert kind_of(name, (8,)) == "vector"
    assert kind_of(name, (3, 4, 8)) == kind_of(name, (3, 3, 4, 8)) == "stack"


def test_what_stands_beside_tells_more():
    assert kind_of("mlp/b", mlp__w=(4, 8, 8)) == "vector"
    assert kind_of("mlp/b2", mlp__w2=(4, 8, 8)) == "vector"
    assert kind_of("lora/b", lora__a=(4, 8)) == "matrix"
    # Equinox's LayerNorm of two axes, by its number in a list.
    assert kind_of("0/weight", **{"0/bias": (4, 8)}) == "vector"
    assert kind_of("0/weight", **{"0/bias": (4,)}) == "matrix"


def test_a_module_of_stacked_layers():
    layers = {"s/Dense_0/kernel": (3, 8, 8), "s/Dense_0/bias": (3, 8)}
    assert kind_of("s/alpha", (3, 8), **layers) == "stack"
    assert kind_of("alpha", (3, 8), **layers) == "matrix"  # outside
    assert kind_of("s/alpha", (5, 8), **layers) == "matrix"  # begins with another number
    flat = {"s/Dense_0/kernel": (8, 8), "s/Dense_0/bias": (8,)}
    assert kind_of("s/alpha", (3, 8), **flat) == "matrix"


def test_runs_of_keys():
    assert runs("a/b/c") == ["a", "a/b", "a/b/c", "b", "b/c", "c"]
    assert runs("mlp~1~0~1linear/w") == [
        "mlp",
        "mlp/linear",
        "mlp/linear/w",
        "linear",
        "linear/w",
        "w",
    ]
