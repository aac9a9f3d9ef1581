"""Kernels and bytes of programs that are small enough to count by hand."""

import jax
import jax.numpy as jnp
import pytest

from tests.benchmarks.hlo import parse
from tests.benchmarks.traffic import Counts, count, kernels

IN_PLACE = """\
%writes (p0: f32[10,8], p1: f32[8], p2: s32[]) -> f32[10,8] {
  %p0 = f32[10,8]{1,0} parameter(0)
  %p1 = f32[8]{0} parameter(1)
  %p2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %old = f32[1,8]{1,0} dynamic-slice(%p0, %p2, %zero), dynamic_slice_sizes={1,8}
  %row = f32[1,8]{1,0} bitcast(%p1)
  %sum = f32[1,8]{1,0} add(%old, %row)
  ROOT %write = f32[10,8]{1,0} dynamic-update-slice(%p0, %sum, %p2, %zero)
}
"""

CALL = """
ENTRY %main (h: f32[10,8], x: f32[8], i: s32[]) -> f32[10,8] {
  %h = f32[10,8]{1,0} parameter(0)
  %x = f32[8]{0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %f = f32[10,8]{1,0} fusion(%h, %x, %i), kind=kLoop, calls=%writes
}
"""


def entry(*lines):
    """A program of one computation."""
    body = "\n".join(f"  {line}" for line in lines)
    return f"ENTRY %main (x: f32[8]) -> f32[8] {{\n{body}\n}}\n"


def test_a_kernel_moves_its_operands_and_its_result():
    text = entry(
        "%x = f32[8]{0} parameter(0)",
        "%i = s32[] parameter(1)",
        "%y = f32[8]{0} add(%x, %x)",
        "%z = bf16[8]{0} bitcast(%y)",
        "ROOT %t = (f32[8]{0}, s32[]) tuple(%y, %i)",
    )
    assert count(text) == Counts(kernels=1, bytes=3 * 32)


def test_of_results_within_results_each_is_written():
    text = """\
%sums (p0: f32[8,4]) -> (f32[8,4], (f32[8], f32[8])) {
  %p0 = f32[8,4]{1,0} parameter(0)
  %y = f32[8,4]{1,0} negate(%p0)
  %two = (f32[8]{0}, f32[8]{0}) reduce(%p0, %y), dimensions={1}, to_apply=%add
  ROOT %t = (f32[8,4]{1,0}, (f32[8]{0}, f32[8]{0})) tuple(%y, %two)
}
""" + entry(
        "%x = f32[8,4]{1,0} parameter(0)",
        "%f = (f32[8,4]{1,0}, (f32[8]{0}, f32[8]{0})) fusion(%x), kind=kInput, calls=%sums",
        "%pair = (f32[8]{0}, f32[8]{0}) get-tuple-element(%f), index=1",
        "%one = f32[8]{0} get-tuple-element(%pair), index=0",
        "ROOT %y = f32[8]{0} negate(%one)",
    )
    # Of the fusion the array is read, and both sums are written; the other result nothing reads.
    assert count(text) == Counts(2, 128 + 32 + 32 + 32 + 32)


def test_slices_that_are_named_as_one_are_no_kernel_more():
    text = entry(
        "%x = f32[8]{0:T(1024)S(1)} parameter(0)",
        "%y = f32[8]{0:T(1024)S(1)} negate(%x)",
        '%two = f32[16]{0:T(1024)S(1)} custom-call(%x, %y), custom_call_target="ConcatBitcast"',
        "ROOT %z = f32[16]{0} negate(%two)",
    )
    assert count(text) == Counts(kernels=2, bytes=64)


def test_a_write_in_place_moves_the_slice():
    # The row that is there, the row that is added and the index are read, and a row is written.
    assert count(IN_PLACE + CALL) == Counts(1, 32 + 32 + 4 + 32)


def test_a_write_is_no_longer_in_place_if_the_buffer_is_read_whole():
    whole = "%all = f32[10,8]{1,0} negate(%p0)\n  %old = f32[1,8]{1,0} dynamic-slice(%all"
    text = IN_PLACE.replace("%old = f32[1,8]{1,0} dynamic-slice(%p0", whole) + CALL
    assert count(text) == Counts(1, 320 + 32 + 4 + 320)


def test_two_writes_into_one_buffer():
    first = "  %write.0 = f32[10,8]{1,0} dynamic-update-slice(%p0, %row, %zero, %zero)\n"
    text = IN_PLACE.replace("  ROOT", f"{first}  ROOT")
    text = text.replace("slice(%p0, %sum", "slice(%write.0, %sum")
    assert count(text + CALL) == Counts(1, 32 + 32 + 4 + 2 * 32)


def test_a_slice_alone_and_a_write_alone():
    text = entry(
        "%h = f32[10,8]{1,0} parameter(0)",
        "%i = s32[] parameter(1)",
        "%row = f32[1,8]{1,0} dynamic-slice(%h, %i, %i), dynamic_slice_sizes={1,8}",
        "ROOT %w = f32[10,8]{1,0} dynamic-update-slice(%h, %row, %i, %i)",
    )
    assert [(k.opcode, k.bytes) for k in kernels(parse(text))] == [
        ("dynamic-slice", 32 + 8 + 32),
        ("dynamic-update-slice", 32 + 8 + 32),
    ]


def test_scratch_that_nothing_reads_is_not_moved():
    text = entry(
        "%x = f32[4,4]{1,0} parameter(0)",
        '%g = (f32[4,4]{1,0}, s8[4096]{0}) custom-call(%x, %x), custom_call_target="gemm"',
        "ROOT %y = f32[4,4]{1,0} get-tuple-element(%g), index=0",
    )
    assert count(text) == Counts(1, 3 * 64)


def test_what_stays_on_the_chip_moves_nothing():
    near = "f32[8]{0:T(128)S(1)}"
    text = entry(
        "%x = f32[8]{0:T(128)} parameter(0)",
        f"%s = ({near}, f32[8]{{0:T(128)}}, u32[]{{:S(2)}}) copy-start(%x)",
        f"%d = {near} copy-done(%s)",
        f"%y = {near} exponential(%d)",
        f"%t = (f32[8]{{0:T(128)}}, {near}, u32[]{{:S(2)}}) copy-start(%y)",
        "ROOT %z = f32[8]{0:T(128)} copy-done(%t)",
    )
    # One copy reads main memory, one writes it; what is between them does neither.
    assert count(text) == Counts(3, 32 + 0 + 32)


LOOP = """\
%turn (a: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%a), index=0
  %x = f32[8]{0} get-tuple-element(%a), index=1
  %y = f32[8]{0} negate(%x)
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %y)
}

%goes_on (a: (s32[], f32[8])) -> pred[] {
  %a = (s32[], f32[8]{0}) parameter(0)
  %i = s32[] get-tuple-element(%a), index=0
  ROOT %c = pred[] compare(%i, %i), direction=LT
}
"""


def loop(known=""):
    return LOOP + entry(
        "%a = (s32[], f32[8]{0}) parameter(0)",
        f"ROOT %w = (s32[], f32[8]{{0}}) while(%a), condition=%goes_on, body=%turn{known}",
    )


KNOWN = ', backend_config={"known_trip_count":{"n":"3"}}'


def test_a_loop_counts_as_often_as_it_runs():
    # Three turns of 64 bytes; the condition, of 9, is asked once more.
    assert count(loop(KNOWN)) == Counts(3 + 4, 3 * 64 + 4 * 9, loops=1)
    assert count(loop(), turns=(0.25,)) == Counts(1.5, 16 + 1.25 * 9, loops=1)
    assert count(loop(), rest=0.25) == count(loop(), turns=(0.25,), rest=1)
    assert count(loop(KNOWN), rest=0.0) == count(loop(KNOWN))


def test_turns_must_fit_the_loops():
    with pytest.raises(ValueError, match="no turns are given for the loop %w, and XLA knows none"):
        count(loop())
    with pytest.raises(ValueError, match="1 of 2 turns are left over: there are fewer loops"):
        count(loop(), turns=(1, 1))
    with pytest.raises(ValueError, match="the loop %w runs 3 times, not 2"):
        count(loop(KNOWN), turns=(2,))


def test_the_dearer_branch_counts():
    branch = "%{0} (x: f32[8]) -> f32[8] {{\n  %x = f32[8]{{0}} parameter(0)\n{1}}}\n\n"
    text = branch.format("dear", "  ROOT %y = f32[8]{0} negate(%x)\n")
    text += branch.format("cheap", "  ROOT %y = f32[8]{0} bitcast(%x)\n")
    text += entry(
        "%x = f32[8]{0} parameter(0)",
        "%i = s32[] parameter(1)",
        "ROOT %c = f32[8]{0} conditional(%i, %x, %x), branch_computations={%cheap, %dear}",
    )
    assert count(text) == Counts(1, 64)


def test_programs_of_this_cpu():
    x = jax.ShapeDtypeStruct((1024,), jnp.float32)

    def counts(f, *arguments, **options):
        return count(jax.jit(f, **options).lower(*arguments).compile().as_text())

    assert counts(lambda x: jnp.sin(x) + 1, x) == Counts(1, 8192)
    assert counts(lambda x, y: (x + y, x * y), x, x).bytes >= 4 * 4096
    one, more = (
        counts(lambda x, n=n: jax.lax.fori_loop(0, n, lambda _, x: jnp.sin(x), x), x).bytes
        for n in (64, 65)
    )
    assert 8192 <= more - one < 8192 + 64
