"""From a function and a start to a minimum: any transform, driven to convergence in one loop."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jopt.base import ConfigError, called
from jopt.core import State, Transform, apply_updates, chain, set_hyperparams
from jopt.core.checks import as_array
from jopt.core.entrance import arrays, check_key, limit, start_point, wrong
from jopt.core.hyperparams import nodes
from jopt.core.tree import Tree
from jopt.numerics import number_dtype, vector_max
from jopt.optimizers import lbfgs

RUNNING, GRADIENT, VALUE, PARAMS, STALLED, NOT_FINITE = range(6)

MESSAGES = (
    "stopped at max_steps, not converged",
    "converged: no entry of the gradient is above tolerance_grad",
    "converged: the value changed by no more than tolerance_value",
    "converged: the parameters changed by no more than tolerance_params",
    "stalled: two steps in a row left the parameters as they were",
    "stopped: the value or gradient is not finite; params are the last at which they were",
)


# Torch's absolute thresholds end it early on small problems; here only the rules below do.
DEFAULT = lbfgs(line_search="strong_wolfe", tolerance_change=0.0, min_curvature=0.0)


class Minimum(NamedTuple):
    """What `minimize` found: a pytree, with a first axis in every array under `jax.vmap`.

    **Attributes:** `params`; `value`, `aux` (`None` without `has_aux`) and `grad_norm`, the
    largest entry of the gradient, all at `params`; `steps`, the updates made; `evaluations`, how
    often the function was differentiated; `status`, why it stopped; `state`, the transform's.
    """

    params: Tree
    value: Array
    aux: Any
    grad_norm: Array
    steps: Array
    evaluations: Array
    status: Array
    state: State

    @property
    def converged(self) -> Array:
        """Whether one of the tolerances was met."""
        return (self.status >= GRADIENT) & (self.status <= PARAMS)

    @property
    def message(self) -> Any:
        """Why it stopped, in words; under `vmap` an array of them. Not for use inside `jit`."""
        words = np.asarray(MESSAGES, object)[np.asarray(self.status)]
        return words if np.ndim(self.status) else str(words)


class _Run(NamedTuple):
    params: Tree
    value: Array
    aux: Any
    grads: Tree
    state: State
    steps: Array
    idle: Array
    status: Array


def minimize(
    fun: Callable[..., Any],
    x0: Tree,
    *args: Any,
    tx: Transform | None = None,
    max_steps: int = 1000,
    tolerance_grad: float = 1e-5,
    tolerance_value: float = 0.0,
    tolerance_params: float = 0.0,
    has_aux: bool = False,
    key: Array | None = None,
) -> Minimum:
    """Minimize `fun(params, *args)` from `x0`, in one compiled loop.

    Each step is one `tx.update`. After it the rules are tried in this order, x being the
    parameters, f the value and g the gradient:

        f or g not finite                                      → back to the point before
        max|g| ≤ tolerance_grad
        |f − f′| ≤ tolerance_value·max(1, |f|, |f′|)           (off where 0)
        max|x − x′| ≤ tolerance_params·max(1, max|x|)          (off where 0)
        x = x′ twice in a row

    **Arguments:**

    - `fun`: gives a real scalar, or `(scalar, aux)` with `has_aux`. As under `jax.jit` it is
      traced once: data that changes between calls belongs in `args`.
    - `x0`: any pytree of floating or complex arrays or numbers.
    - `*args`: further arguments of `fun`: pytrees of arrays, not differentiated.
    - `tx`: the transform; by default L-BFGS with a strong Wolfe search, whose every update is
      up to 20 iterations, and which stops for `tolerance_grad` in between.
    - `max_steps`: how many updates at most.
    - `tolerance_grad`, `tolerance_value`, `tolerance_params`: see above; each at least 0. The
      first is SciPy's; float32 hardly lets it be less where the value is near 1.
    - `has_aux`: `fun` returns something besides the value.
    - `key`: a random key for transforms that need one; every step gets its own.

    **Returns:** a `Minimum`. `jax.jit` and `jax.vmap` take `minimize` as any function: many
    starts at once are `jax.vmap(lambda x: jopt.minimize(fun, x))(starts)`.

    **Raises:** `ConfigError` for a limit below 0, a `tx` that is none or a `fun` whose value is no
    real scalar; `TreeError` for a leaf of integers.

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
    check_key("minimize", key)
    limits: dict[str, Any] = {
        "tolerance_grad": tolerance_grad,
        "tolerance_value": tolerance_value,
        "tolerance_params": tolerance_params,
    }
    limits = {name: limit("minimize", name, x, number_dtype()) for name, x in limits.items()}
    limits["max_steps"] = limit("minimize", "max_steps", max_steps, jnp.int32)
    own = tx is None
    tx = DEFAULT if tx is None else chain(tx)
    start = _strong(start_point("minimize", x0))
    args = tuple(arrays("minimize", f"args[{i}]", arg) for i, arg in enumerate(args))
    found: Minimum = _minimize(_hashable(fun), tx, has_aux, own, start, args, limits, key)
    return found


def _hashable(fun: Callable[..., Any]) -> Callable[..., Any]:
    # What jit remembers a function by; one that holds arrays is traced anew every time.
    try:
        hash(fun)
    except TypeError:
        return lambda *args: fun(*args)
    return fun


def _strong(tree: Tree) -> Tree:
    # Loops need types that stay; a Python number has one that gives way.
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), tree)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _minimize(
    fun: Callable[..., Any],
    tx: Transform,
    has_aux: bool,
    own: bool,
    x0: Tree,
    args: tuple[Any, ...],
    limits: dict[str, Array],
    key: Array | None,
) -> Minimum:
    def objective(x: Tree) -> tuple[Array, Any]:
        out = called("minimize", "fun", fun, x, *args)
        if has_aux and not (isinstance(out, tuple | list) and len(out) == 2):
            expected = "(scalar, aux), as has_aux=True says"
            raise wrong("minimize", "fun gives no pair", expected, out)
        value, aux = out if has_aux else (out, None)
        value = as_array("minimize", "the value of fun", value)
        if value.shape or not jnp.issubdtype(value.dtype, jnp.floating):
            raise ConfigError(
                "minimize",
                "fun does not give a real scalar",
                expected="a floating scalar, or (scalar, aux) with has_aux=True",
                found=f"{value.dtype}{list(value.shape)}",
            )
        return value, aux

    def look(x: Tree) -> tuple[Array, Any, Tree]:
        (value, aux), grads = jax.value_and_grad(objective, has_aux=True)(x)
        # jax differentiates complex numbers to the conjugate of the direction of ascent.
        seen: tuple[Array, Any, Tree] = _strong((value, aux, jax.tree.map(jnp.conj, grads)))
        return seen

    def body(run: _Run) -> _Run:
        extra = {} if key is None else {"key": jax.random.fold_in(key, run.steps)}
        updates, state = tx.update(
            run.grads,
            run.state,
            run.params,
            value=run.value,
            grad=run.grads,
            value_fn=lambda x: objective(x)[0],
            **extra,
        )
        params = apply_updates(run.params, updates)
        value, aux, grads = look(params)
        moved = _size(jax.tree.map(operator.sub, params, run.params))
        # A step of nothing means the end only where the transform looked for a step itself:
        # others rest between micro-batches, or while a schedule is at 0.
        resting = (moved == 0) & (not _counters(state))
        idle = jnp.where((moved == 0) & ~resting, run.idle + 1, 0)
        finite = _finite(value, grads)
        status = jnp.where(
            finite,
            _verdict(limits, (run.value, value), grads, params, (moved, idle, resting)),
            NOT_FINITE,
        )
        new = _Run(params, value, aux, grads, state, run.steps + 1, idle, status)
        before = run._replace(steps=new.steps, status=status)
        return _Run(*(_where(finite, a, b) for a, b in zip(new, before, strict=True)))

    value, aux, grads = look(x0)
    state = tx.init(x0)
    if own:
        state = set_hyperparams(state, tolerance_grad=limits["tolerance_grad"])
    flat = _size(grads) <= limits["tolerance_grad"]
    status = jnp.where(_finite(value, grads), jnp.where(flat, GRADIENT, RUNNING), NOT_FINITE)
    zero = jnp.int32(0)
    start = _Run(x0, value, aux, grads, state, zero, zero, status.astype(jnp.int32))
    end = jax.lax.while_loop(
        lambda run: (run.status == RUNNING) & (run.steps < limits["max_steps"]), body, start
    )
    evaluations = end.steps + 1 + _searched(end.state) - _searched(state)
    return Minimum(
        end.params,
        end.value,
        end.aux,
        _size(end.grads),
        end.steps,
        evaluations - end.steps * len(_counters(end.state)),
        end.status,
        end.state,
    )


def _verdict(limits: dict[str, Array], values: Any, grads: Tree, params: Tree, by: Any) -> Array:
    (old, value), (moved, idle, resting) = (v.astype(number_dtype()) for v in values), by
    f_limit, x_limit = limits["tolerance_value"], limits["tolerance_params"]
    f_scale = jnp.maximum(1, jnp.maximum(jnp.abs(old), jnp.abs(value)))
    rules = (
        (_size(grads) <= limits["tolerance_grad"], GRADIENT),
        (~resting & (f_limit > 0) & (jnp.abs(value - old) <= f_limit * f_scale), VALUE),
        (~resting & (x_limit > 0) & (moved <= x_limit * jnp.maximum(1, _size(params))), PARAMS),
        (idle >= 2, STALLED),
    )
    status: Array = jnp.select([r for r, _ in rules], [jnp.int32(s) for _, s in rules], RUNNING)
    return status


def _counters(state: State) -> list[Array]:
    # Transforms that evaluate on their own count it, the first given gradient included.
    found = [node.get("func_evals", {}) for _, node in nodes(state) if isinstance(node, Mapping)]
    return [count for counts in found for count in jax.tree.leaves(counts)]


def _searched(state: State) -> Array:
    return sum(_counters(state), start=jnp.int32(0))


def _finite(value: Array, grads: Tree) -> Array:
    return jnp.isfinite(value) & jnp.isfinite(_size(grads))


def _size(tree: Tree) -> Array:
    leaves = jax.tree.leaves(tree)
    return vector_max(leaves).astype(number_dtype()) if leaves else jnp.zeros((), number_dtype())


def _where(which: Array, a: Tree, b: Tree) -> Tree:
    return jax.tree.map(lambda x, y: jnp.where(which, x, y), a, b)
