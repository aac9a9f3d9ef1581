"""A vision transformer, fine-tuned as its papers do it: one optimizer, other numbers by pattern.

The patch embedding moves at a tenth of the learning rate, the head warms up on its own, weight
decay is for kernels only, the lower blocks are frozen and count in no norm. Adafactor keeps
factored second moments, with a cap for β₂, and its momentum in bfloat16. `recipe` is all of it.

    python examples/vision_transformer.py --steps 300

The data are handwritten digits, which come with scikit-learn; the weights are drawn, where a real
run would load them. Names are those that flax gives.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import jopt


def recipe(rate, head_rate, frozen, b2_max=0.999):
    """Of a ViT with flax's names: the blocks that the pattern `frozen` matches stay as they are."""
    adafactor = jopt.adafactor(
        rate,
        momentum=0.9,
        b2_max=b2_max,
        multiply_by_parameter_scale=False,
        state_dtype={"mu": "bfloat16"},
        groups={
            "kernels": jopt.group("/kernel$", weight_decay=1e-2),
            "patches": jopt.group("^embedding/", learning_rate=jopt.times(0.1)),
            "head": jopt.group("^head/", learning_rate=head_rate),
            "frozen": jopt.group(frozen, freeze=True),
        },
    )
    return jopt.chain(jopt.clip_by_global_norm(1.0), adafactor)


def start(rng, width, heads, depth, patches=16, pixels=4, classes=10):
    """Weights of a transformer that sees `patches` pieces of an image."""

    def dense(*shape, into=1):
        size = np.sqrt(np.prod(shape[:-into]))
        kernel = rng.normal(size=shape).astype(np.float32) / np.float32(size)
        return {"kernel": kernel, "bias": np.zeros(shape[-into:], np.float32)}

    def norm():
        return {"scale": np.ones(width, np.float32), "bias": np.zeros(width, np.float32)}

    def block():
        each = width // heads
        attention = {name: dense(width, heads, each, into=2) for name in ("query", "key", "value")}
        attention["out"] = dense(width, width)
        mlp = {"Dense_0": dense(width, 2 * width), "Dense_1": dense(2 * width, width)}
        return {
            "LayerNorm_0": norm(),
            "MultiHeadDotProductAttention_0": attention,
            "LayerNorm_1": norm(),
            "MlpBlock_0": mlp,
        }

    return {
        "embedding": dense(pixels, width),
        "pos_embedding": rng.normal(size=(1, patches, width)).astype(np.float32) / 50,
        "Transformer": {
            **{f"encoderblock_{i}": block() for i in range(depth)},
            "encoder_norm": norm(),
        },
        "head": dense(width, classes),
    }


def normalized(of, x):
    x = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * of["scale"] + of["bias"]


def attended(of, x):
    """Every patch looks at all of them."""
    q, k, v = (
        jnp.einsum("npd,dhe->nphe", x, of[name]["kernel"]) + of[name]["bias"]
        for name in ("query", "key", "value")
    )
    looks = jax.nn.softmax(jnp.einsum("nphe,nqhe->nhpq", q, k) / np.sqrt(q.shape[-1]))
    seen = jnp.einsum("nhpq,nqhe->nphe", looks, v).reshape(x.shape)
    return seen @ of["out"]["kernel"] + of["out"]["bias"]


def loss_fn(params, x, y):
    """Cross-entropy of images that are already in patches."""
    x = x @ params["embedding"]["kernel"] + params["embedding"]["bias"] + params["pos_embedding"]
    blocks = dict(params["Transformer"])
    last = blocks.pop("encoder_norm")
    for _, block in sorted(blocks.items()):
        attention, mlp = block["MultiHeadDotProductAttention_0"], block["MlpBlock_0"]
        x = x + attended(attention, normalized(block["LayerNorm_0"], x))
        h = normalized(block["LayerNorm_1"], x) @ mlp["Dense_0"]["kernel"] + mlp["Dense_0"]["bias"]
        x = x + jax.nn.gelu(h) @ mlp["Dense_1"]["kernel"] + mlp["Dense_1"]["bias"]
    x = normalized(last, x).mean(1)
    scores = jax.nn.log_softmax(x @ params["head"]["kernel"] + params["head"]["bias"])
    return -jnp.mean(jnp.sum(jax.nn.one_hot(y, 10) * scores, axis=-1))


def patches(images):
    """Images of 8 by 8 as sixteen pieces of 2 by 2."""
    pieces = images.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4)
    return pieces.reshape(-1, 16, 4).astype(np.float32) / 16


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--depth", type=int, default=3)
    args = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    x, y = jnp.asarray(patches(images)), jnp.asarray(labels)
    params = start(np.random.default_rng(0), args.width, 4, args.depth)
    schedule = jopt.schedules.warmup_cosine
    tx = recipe(
        schedule(3e-3, args.steps // 20, args.steps, end_value=3e-4),
        schedule(1e-2, args.steps // 5, args.steps, end_value=1e-3),
        frozen="^Transformer/encoderblock_0/",
    )

    @jax.jit
    def train(params, x, y):
        def step(carry, rows):
            params, state = carry
            loss, grads = jax.value_and_grad(loss_fn)(params, x[rows], y[rows])
            updates, state = tx.update(grads, state, params)
            return (jopt.apply_updates(params, updates), state), loss

        order = jax.random.randint(jax.random.key(0), (args.steps, 64), 0, len(x))
        return jax.lax.scan(step, (params, tx.init(params)), order)

    (after, state), losses = train(params, x, y)

    print("numbers in force after the last step:")
    for names, numbers in jopt.hyperparams(state, tx, params)["adafactor"].items():
        rate, decay = (float(numbers[name]) for name in ("learning_rate", "weight_decay"))
        print(f"  {names:16s} learning rate {rate:.0e}   weight decay {decay:.0e}")
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), after, params)["Transformer"]
    still = [name for name, leaves in moved.items() if not any(jax.tree.leaves(leaves))]
    print(f"frozen: {', '.join(still)}")
    print(f"loss {losses[0]:.3f} -> {losses[-20:].mean():.3f}")


if __name__ == "__main__":
    main()
