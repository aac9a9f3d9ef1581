"""The two training steps on the first page of the documentation are one."""

import jax.numpy as jnp
import numpy as np
import torch

from tests.pages import DOCS, as_users_programs, blocks


def test_both_steps_of_the_first_page_end_at_the_same_weights():
    (_, in_torch), (_, in_jax), *_ = blocks((DOCS / "index.md").read_text())
    torchs, ours = {}, {}
    with as_users_programs():
        exec(in_torch, torchs)
        exec(in_jax, ours)
        for at in (0, 2):
            layer, mine = torchs["model"][at], ours["model"].layers[at]
            mine.kernel[...] = jnp.array(layer.weight.detach().numpy().T)
            mine.bias[...] = jnp.array(layer.bias.detach().numpy())
        rng = np.random.default_rng(0)
        for _ in range(50):
            x = rng.normal(size=(8, 2)).astype("f")
            y = np.sin(x.sum(1, keepdims=True))
            loss = torchs["train_step"](torch.tensor(x), torch.tensor(y))
            same = ours["train_step"](ours["model"], ours["optimizer"], x, y)
            np.testing.assert_allclose(same, loss.detach(), rtol=1e-4)
    for at in (0, 2):
        layer, mine = torchs["model"][at], ours["model"].layers[at]
        np.testing.assert_allclose(mine.kernel[...], layer.weight.detach().T, atol=2e-5)
        np.testing.assert_allclose(mine.bias[...], layer.bias.detach(), atol=2e-5)
