"""The text of compiled programs, as XLA prints it for each of the targets."""

import jax
import jax.numpy as jnp
import pytest

from tests.benchmarks.hlo import ArrayType, bits, parse, types

GPU = """\
HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8]{0})->(f32[8]{0}, s32[])}

%fused_add (param_0.1: f32[8], param_1.2: f32[]) -> (f32[8], f32[8]) {
  %param_1.2 = f32[] parameter(1)
  %param_0.1 = f32[8]{0} parameter(0)
  %broadcast.1 = f32[8]{0} broadcast(%param_1.2), dimensions={}, metadata={op_name="jit(f)/add"}
  %add.0 = f32[8]{0} add(%param_0.1, %broadcast.1)
  ROOT %tuple.1 = (f32[8]{0}, f32[8]{0}) tuple(%add.0, /*index=1*/%param_0.1)
}

ENTRY %main.3 (x.1: f32[8]) -> (f32[8], s32[]) {
  %x.1 = f32[8]{0} parameter(0), metadata={op_name="x (the (first) argument"}
  %constant.2 = f32[] constant(-inf)
  %constant.3 = f32[2]{0} constant({1, 2})
  %loop_fusion = (f32[8]{0}, f32[8]{0}) fusion(%x.1, %constant.2), kind=kLoop, calls=%fused_add
  %get-tuple-element.1 = f32[8]{0} get-tuple-element(%loop_fusion), index=1
  ROOT %out = (f32[8]{0}, /*index=1*/f32[8]{0}) tuple(%x.1, %get-tuple-element.1)
}

"""

LOOP = (
    "  %while.1 = (s32[], f32[8]{0}) while(%tuple.5), condition=%above, body=%turn, "
    'backend_config={"known_trip_count":{"n":"10"},"known_init_step":{"init":"0","step":"1"}}'
)


def one(line):
    """The instruction that a line says."""
    return next(iter(parse(f"ENTRY %e (x: f32[]) -> f32[] {{\n{line}\n}}").computations.values()))


def test_a_program_has_its_computations_and_their_roots():
    program = parse(GPU)
    assert program.entry == "main.3"
    assert list(program.computations) == ["fused_add", "main.3"]
    assert {name: c.root for name, c in program.computations.items()} == {
        "fused_add": "tuple.1",
        "main.3": "out",
    }


def test_an_instruction_has_its_type_operands_and_computations():
    fusion = parse(GPU).computations["main.3"].instructions["loop_fusion"]
    assert fusion.opcode == "fusion"
    assert fusion.types == (ArrayType("f32", (8,), 0), ArrayType("f32", (8,), 0))
    assert fusion.operands == ("x.1", "constant.2")
    assert fusion.calls == {"calls": ("fused_add",)}
    assert fusion.nbytes == fusion.in_memory == 64


def test_numbers_of_parameters_and_elements():
    program = parse(GPU)
    fused = program.computations["fused_add"].instructions
    assert {name: i.number for name, i in fused.items() if i.opcode == "parameter"} == {
        "param_0.1": 0,
        "param_1.2": 1,
    }
    assert program.computations["main.3"].instructions["get-tuple-element.1"].number == 1


def test_constants_have_no_operands_and_comments_are_none():
    entry = parse(GPU).computations["main.3"]
    assert entry.instructions["constant.3"].operands == ()
    assert entry.instructions["out"].operands == ("x.1", "get-tuple-element.1")


def test_users_are_who_reads_a_result():
    users = parse(GPU).computations["main.3"].users
    assert [user.name for user in users["x.1"]] == ["loop_fusion", "out"]
    assert users["out"] == []


def test_the_turns_of_a_counted_loop_are_known():
    loop = one(LOOP).instructions["while.1"]
    assert loop.trips == 10
    assert loop.calls == {"condition": ("above",), "body": ("turn",)}
    assert one(LOOP.split(", backend")[0]).instructions["while.1"].trips is None


def test_branches_of_a_conditional():
    line = "  %c = f32[] conditional(%i, %x, %y), branch_computations={%first, %second.1}"
    assert one(line).instructions["c"].calls == {"branch_computations": ("first", "second.1")}


def test_layouts_say_where_an_array_is():
    text = "(f32[512,2048]{1,0:T(8,128)S(1)}, bf16[2,3]{1,0:T(8,128)(2,1)}, u32[]{:S(2)})"
    assert types(text) == (
        ArrayType("f32", (512, 2048), 1),
        ArrayType("bf16", (2, 3), 0),
        ArrayType("u32", (), 2),
    )
    start = one(f"  %copy-start = {text} copy-start(%x), cross_program_prefetch_index=0")
    assert start.instructions["copy-start"].opcode == "copy-start"
    assert start.instructions["copy-start"].in_memory == 12


@pytest.mark.parametrize(
    ("dtype", "expected"),
    {
        "f32": 32, "bf16": 16, "pred": 8, "s4": 4, "u8": 8, "s64": 64, "c64": 64,
        "f8e4m3fn": 8, "f8e5m2": 8, "token": 0,
    }.items(),
)  # fmt: skip
def test_sizes_of_dtypes(dtype, expected):
    assert bits(dtype) == expected


def test_arrays_of_half_bytes_take_whole_ones():
    assert ArrayType("s4", (3,), 0).nbytes == 2


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="it has no ENTRY computation"):
        parse("HloModule jit_f\n")
    with pytest.raises(ValueError, match=r"a parenthesis stays open: \(f32\[8\]"):
        one("  %t = (f32[8]{0}, f32[8]{0} tuple(%x, %y)")


def test_what_xla_prints_here_is_read_whole():
    def f(x, i):
        x = jax.lax.fori_loop(0, 5, lambda i, x: jnp.sin(x) * 2, x)
        return jax.lax.cond(i > 0, jnp.exp, lambda x: -x, x @ x), jnp.sum(x, 0)

    text = jax.jit(f).lower(jnp.ones((16, 16)), 1).compile().as_text()
    program = parse(text)
    lines = [line for line in text.splitlines() if " = " in line and line.startswith("  ")]
    assert sum(len(c.instructions) for c in program.computations.values()) == len(lines)
    for computation in program.computations.values():
        for instruction in computation.instructions.values():
            assert set(instruction.operands) <= set(computation.instructions)
            for names in instruction.calls.values():
                assert set(names) <= set(program.computations)
    loops = [i for c in program.computations.values() for i in c.instructions.values() if i.trips]
    assert [loop.trips for loop in loops] == [5]
