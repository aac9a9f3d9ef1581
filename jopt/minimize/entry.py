"""From a function and a start to a minimum, in one compiled loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax.numpy as jnp
from jax import Array

from jopt.base import is_one_of, whole_number
from jopt.core import Transform, chain
from jopt.core.entrance import arrays, check_key, limit, start_point, wrong
from jopt.core.tree import Tree
from jopt.minimize.bounds import laid_bounds
from jopt.minimize.by_pairs import by_pairs
from jopt.minimize.problem import Objective, Packed
from jopt.minimize.result import Minimum
from jopt.numerics import number_dtype

Method = Literal["lbfgs", "newton_cg"]
"""What `minimize` does without `tx`."""


def minimize(
    fun: Callable[..., Any],
    x0: Tree,
    *args: Any,
    tx: Transform | None = None,
    method: Method = "lbfgs",
    bounds: tuple[Any, Any] | None = None,
    max_steps: int | None = None,
    tolerance_grad: float = 1e-5,
    tolerance_value: float = 0.0,
    tolerance_params: float = 0.0,
    has_aux: bool = False,
    trace: int = 0,
    key: Array | None = None,
) -> Minimum:
    """Minimize `fun(params, *args)` from `x0`, in one compiled loop.

    By default L-BFGS of 100 pairs, with a search for the strong Wolfe conditions; "newton_cg" has
    Newton's steps in a region of trust; with `tx` each step is one `tx.update`. After a step the
    rules are tried in this order, x being the parameters, f the value and g the gradient:

        f or g not finite                                      → back to the point before
        max|g| ≤ tolerance_grad
        |f − f′| ≤ tolerance_value·max(1, |f|, |f′|)           (off where 0)
        max|x − x′| ≤ tolerance_params·max(1, max|x|)          (off where 0)
        no decrease can be represented; x = x′ twice in a row (`tx`)

    After five steps that have neither lowered the value by its last place nor halved the gradient
    L-BFGS forgets its pairs, ten times at the most, and only if that lowered the value by √ε of it
    the last time; where rounding errors make its direction rise it does so, too, without a limit of
    the number. It is at the limit of rounding where that or a search along −g gains nothing, and
    what the slope promises is below the last places of the value, or
    max(|g|·max(1, |x|)) ≤ ∛ε·max(1, |f|). Values that are not finite its search
    takes for infinitely high: only at `x0` do they end it.

    "newton_cg" minimises m(d) = f + gᵀd + ½·dᵀHd in ‖d‖ ≤ Δ by conjugate gradients, which take
    products H·d alone, until ‖g + Hd‖ < min(½, √(‖g‖/‖g₀‖))·‖g‖, and goes as far as it can along
    negative curvature. Of what m promises a step must keep 0.15; below 0.25, Δ is a quarter of its
    length, above 0.75 and at the edge twice what it was. Δ is made of the first product, and ‖g₀‖
    is of the start, so that nothing depends on units. It is at the limit of rounding where a step
    within the region was promised less than the last places of f and is not taken, or as above.

    **Arguments:**

    - `fun`: gives a real scalar, or `(scalar, aux)` with `has_aux`. As under `jax.jit` it is
      traced once: data that changes between calls belongs in `args`.
    - `x0`: any pytree of floating or complex arrays or numbers.
    - `*args`: further arguments of `fun`: pytrees of arrays, not differentiated.
    - `tx`: a transform to drive instead.
    - `method`: without `tx`, "lbfgs" or "newton_cg", SciPy's "trust-ncg". The latter has no
      `bounds`; `fun` is differentiated twice, the second time forwards.
    - `bounds`: `(lower, upper)`: each a number, a tree like `x0` of numbers and arrays, or `None`,
      also for a single leaf. Equal bounds fix an entry. The function is never evaluated outside;
      `x0` is moved inside first, and the gradient of the rules above is P(x − g) − x, with P
      the projection to the bounds. Where the model's minimum is not between the bounds, L-BFGS
      takes its newest 20 pairs.
    - `max_steps`: how many steps at most; `None` is 15 000, which is SciPy's, and 1000 with `tx`.
    - `tolerance_grad`, `tolerance_value`, `tolerance_params`: see above; each at least 0. The
      first is SciPy's; float32 hardly lets it be less where the value is near 1.
    - `has_aux`: `fun` returns something besides the value.
    - `trace`: a number of steps of which the values are kept, see `Minimum.trace`: an array with
      that at the start and then one a step, NaN after the last.
    - `key`: a random key for transforms that need one; every step gets its own.

    **Returns:** a `Minimum`. `jax.jit` and `jax.vmap` take `minimize` as any function: many
    starts at once are `jax.vmap(lambda x: jopt.minimize(fun, x))(starts)`, and `.best()` of that
    the lowest.

    **Raises:** `ConfigError` for a limit below 0, a `tx` that is none, a `method` that there is not
    or that does not go with the rest, or a `fun` whose value is no real scalar; `TreeError` for a
    leaf of integers, or bounds that do not fit a leaf.

    Source: Liu and Nocedal, 1989; with bounds Byrd, Lu, Nocedal and Zhu, 1995, and Morales and
    Nocedal, 2011; the limit of rounding by Hager and Zhang, 2005,
    and Dennis and Schnabel, 1983, section 7.2; "newton_cg" by Steihaug, 1983, and Nocedal and
    Wright, 2006, algorithms 4.1 and 7.2.

    >>> import jax.numpy as jnp, jopt
    >>> found = jopt.minimize(lambda x: jnp.sum((x - 1.0) ** 4 + x ** 2), jnp.zeros(3))
    >>> [round(float(x), 3) for x in found.params]
    [0.41, 0.41, 0.41]
    >>> found.message
    'converged: no entry of the gradient is above tolerance_grad'
    """
    if not callable(fun):
        raise wrong("minimize", "fun is no function", "minimize(fun, x0)", fun)
    if not isinstance(has_aux, bool):
        raise wrong("minimize", "has_aux is yes or no", "True or False", has_aux)
    if not is_one_of(method, *get_args(Method)):
        expected = " or ".join(map(repr, get_args(Method)))
        raise wrong("minimize", "there is no such method", expected, method)
    check_key("minimize", key)
    limits: dict[str, Any] = {
        "tolerance_grad": tolerance_grad,
        "tolerance_value": tolerance_value,
        "tolerance_params": tolerance_params,
    }
    limits = {name: limit("minimize", name, x, number_dtype()) for name, x in limits.items()}
    most = (15_000 if tx is None else 1000) if max_steps is None else max_steps
    limits["max_steps"] = limit("minimize", "max_steps", most, jnp.int32)
    kept = whole_number("minimize", "trace", trace, 0, counted=True)
    start = start_point("minimize", x0)
    args = tuple(arrays("minimize", f"args[{i}]", arg) for i, arg in enumerate(args))
    box = None if bounds is None else laid_bounds(start, bounds)
    objective = Objective(_hashable(fun), has_aux)
    found: Minimum
    if tx is not None and bounds is not None:
        expected = "bounds= without tx="
        raise wrong("minimize", "a transform knows no bounds", expected, bounds)
    if method == "newton_cg" and (tx is not None or bounds is not None):
        problem = "method='newton_cg' knows no bounds, and takes no transform"
        expected = "method='lbfgs' for bounds=, no method= for tx=, or neither of the two"
        raise wrong("minimize", problem, expected, tx if bounds is None else bounds)
    packed = Packed.like(start)
    if tx is None and method == "lbfgs":
        found = by_pairs(objective, packed, kept, start, args, limits, box)
    elif tx is None:
        from jopt.minimize.by_newton import by_newton  # which few programs need

        found = by_newton(objective, packed, kept, start, args, limits)
    else:
        from jopt.minimize.by_transform import by_transform  # which few programs need

        found = by_transform(objective, chain(tx), kept, start, args, limits, key)
    return found


def _hashable(fun: Callable[..., Any]) -> Callable[..., Any]:
    # What jit remembers a function by; one that holds arrays is traced anew every time.
    try:
        hash(fun)
    except TypeError:
        return lambda *args: fun(*args)
    return fun
