"""optax-shampoo run live beside Shampoo: `pip install --no-deps optax-shampoo`.

It asks for names that jax has given up, which `optax_shampoo.py` puts back. What it is beside is
what `test_recorded.py` has for its record, of the jax that it was written for.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tests.oracles.problems import problem
from tests.oracles.recorded.kept import STEPS, off
from tests.oracles.recorded.make import SHAMPOO, led, of_shampoo
from tests.oracles.test_recorded import APART, OURS
from tests.oracles.torch_live import jopt_run


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SHAMPOO)
def test_shampoo_takes_the_steps_of_optax_shampoo(name):
    pytest.importorskip("optax_shampoo")
    params, grads = problem((0, 1, 2, 3), STEPS)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = led(of_shampoo(SHAMPOO[name]))
    gap = off(jopt_run(OURS[name](), params, grads, np.float64).params, params, theirs)
    assert gap >= 1e-5 if name in APART else gap <= 1e-6
