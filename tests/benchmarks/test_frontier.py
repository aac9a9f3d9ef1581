"""Operations of matrix products, and conditionals that are counted at rest."""

import jax
import jax.numpy as jnp

from tests.benchmarks.frontier import products
from tests.benchmarks.traffic import Counts, count


def test_products_count_turns_and_the_branches_that_do_least_and_most():
    x, y = jnp.ones((2, 3)), jnp.ones((3, 4))

    def step(x, y, due):
        made = jax.lax.scan(lambda c, _: (c + jnp.sum(x @ y), None), 0.0, length=5)[0]
        return made + jax.lax.cond(due, lambda: jnp.sum(y.T @ y), lambda: 0.0)

    one, other = 2 * 2 * 3 * 4, 2 * 4 * 3 * 4
    assert products(jax.make_jaxpr(step)(x, y, True).jaxpr) == (5 * one, 5 * one + other)


def test_loops_without_a_number_have_the_turns_that_are_said():
    x = jnp.ones((2, 2))
    jaxpr = jax.make_jaxpr(
        lambda x: jax.lax.while_loop(lambda x: jnp.sum(x) < 9, lambda x: x @ x, x)
    )(x).jaxpr
    assert products(jaxpr) == (0, 0)
    assert products(jaxpr, turns=(3,)) == (3 * 16, 3 * 16)
    assert products(jaxpr, by_loop=True) == (0, 16)


def test_what_the_first_step_alone_does_is_not_counted():
    x, y = jnp.ones((2, 3)), jnp.ones((3, 4))

    def step(x, y, which):
        ways = [lambda: 0.0, lambda: jnp.sum(y.T @ y), lambda: jnp.sum(x @ y)]
        return jax.lax.switch(which, ways)

    jaxpr = jax.make_jaxpr(step)(x, y, 1).jaxpr
    assert products(jaxpr) == (0, 2 * 4 * 3 * 4)
    assert products(jaxpr, first=1) == (0, 2 * 2 * 3 * 4)


def test_of_a_conditional_the_branch_that_moves_least():
    branch = "%{} (p: f32[8]) -> f32[8] {{\n  %p = f32[8]{{0}} parameter(0)\n  ROOT %r = {}\n}}\n"
    text = branch.format("works", "f32[8]{0} negate(%p)") + branch.format(
        "rests", "f32[8]{0} bitcast(%p)"
    )
    text += """ENTRY %main (x: f32[8], i: pred[]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %i = pred[] parameter(1)
  ROOT %y = f32[8]{0} conditional(%i, %x, %x), branch_computations={%works, %rests}
}
"""
    assert count(text) == Counts(1, 64)
    assert count(text, branch=min) == Counts(0, 0)
