"""What `minimize` found, and why it stopped."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.core import State
from jopt.core.tree import Tree

RUNNING, GRADIENT, VALUE, PARAMS, STALLED, NOT_FINITE, PRECISION, SEARCH, REGION = range(9)

MESSAGES = (
    "stopped at max_steps, not converged",
    "converged: no entry of the gradient is above tolerance_grad",
    "converged: the value changed by no more than tolerance_value",
    "converged: the parameters changed by no more than tolerance_params",
    "stalled: two steps in a row left the parameters as they were",
    "stopped: the value or gradient is not finite; params are the last at which they were",
    "converged: no decrease of the value can be represented",
    "stopped: the line search found no lower value along the gradient",
    "stopped: no step lowers the value, however small the region of trust",
)

IN_SCIPY = (
    "STOP: TOTAL NO. OF ITERATIONS REACHED LIMIT",
    "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL",
    "CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH",
    "CONVERGENCE: X CHANGED BY NO MORE THAN XTOL",
    "ABNORMAL: TWO STEPS LEFT X AS IT WAS",
    "ABNORMAL: F OR ITS GRADIENT IS NOT FINITE",
    "CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH",
    "ABNORMAL: NO LOWER F ALONG THE SEARCH DIRECTION",
    "ABNORMAL: NO LOWER F IN THE TRUST REGION",
)
"""The same in the words of SciPy's L-BFGS-B, where it has any."""


class Minimum(NamedTuple):
    """What `minimize` found: a pytree, with a first axis in every array under `jax.vmap`.

    **Attributes:** `params`; `value`, `aux` (`None` without `has_aux`) and `grad_norm`, the
    largest entry of the gradient, all at `params`; `steps`, the updates made; `evaluations`, how
    often the function was evaluated with its gradient; `status`, why it stopped; `state`, the
    transform's, the pairs of L-BFGS, or the radius of "newton_cg"; `trace`, the values as asked
    for, or `None`; `products`, of the Hessian and a vector, how many "newton_cg" took, or `None`.
    """

    params: Tree
    value: Array
    aux: Any
    grad_norm: Array
    steps: Array
    evaluations: Array
    status: Array
    state: State
    trace: Array | None = None
    products: Array | None = None

    @property
    def converged(self) -> Array:
        """Whether a tolerance was met, or no decrease can be represented."""
        within = (self.status >= GRADIENT) & (self.status <= PARAMS)
        return within | (self.status == PRECISION)

    @property
    def success(self) -> Array:
        """The same as `converged`, by SciPy's name."""
        return self.converged

    @property
    def nfev(self) -> Array:
        """The same as `evaluations`, by SciPy's name."""
        return self.evaluations

    @property
    def njev(self) -> Array:
        """How often the gradient was evaluated, by SciPy's name: with every value."""
        return self.evaluations

    @property
    def nhev(self) -> Array | None:
        """The same as `products`, by SciPy's name."""
        return self.products

    @property
    def nit(self) -> Array:
        """The same as `steps`, by SciPy's name."""
        return self.steps

    @property
    def message(self) -> Any:
        """Why it stopped, in words; under `vmap` an array of them. Not for use inside `jit`."""
        words = np.asarray(MESSAGES, object)[np.asarray(self.status)]
        return words if np.ndim(self.status) else str(words)

    def best(self) -> Minimum:
        """Of many under `jax.vmap` the one with the least value; also inside `jit`.

        Values that are not numbers come last. Where it is one already it is returned as it is.

        >>> import jax, jax.numpy as jnp, jopt
        >>> f = lambda x: jnp.sum(jnp.cos(3 * x) + 0.1 * x**2)
        >>> starts = jnp.linspace(-4.0, 4.0, 8)[:, None]
        >>> found = jax.vmap(lambda x: jopt.minimize(f, x))(starts).best()
        >>> round(abs(float(found.params[0])), 2), bool(found.success)
        (1.02, True)
        """
        if not jnp.ndim(self.value):
            return self
        values = jnp.where(jnp.isnan(self.value), jnp.inf, self.value).reshape(-1)
        which, axes = jnp.argmin(values), jnp.ndim(self.value)

        def one(x: Array) -> Array:
            return x.reshape(-1, *x.shape[axes:])[which]

        found: Minimum = jax.tree.map(one, self)
        return found

    def as_scipy(self) -> Any:
        """A `scipy.optimize.OptimizeResult`, for code written for SciPy. Not inside `jit`.

        It has `x`, `fun`, `nit`, `nfev`, `njev`, `success`, `message` and `status`, which is 0
        for success, 1 at the limit of steps and 2 for the rest; of "newton_cg" also `nhev`.
        """
        from scipy.optimize import OptimizeResult  # type: ignore[import-untyped]

        success, evaluations = bool(self.success), int(self.evaluations)
        products = {} if self.products is None else {"nhev": int(self.products)}
        return OptimizeResult(
            x=jax.tree.map(np.asarray, self.params),
            fun=float(self.value),
            nit=int(self.steps),
            nfev=evaluations,
            njev=evaluations,
            success=success,
            status=0 if success else 1 if int(self.status) == RUNNING else 2,
            message=IN_SCIPY[int(self.status)],
            **products,
        )
