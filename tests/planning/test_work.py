"""What is read out of compiled programs: on small texts in the compiler's own form."""

import textwrap

import pytest

from pdm_jax.planning.hlo import read_module
from pdm_jax.planning.work import group_size, work_of

# A loop of 5 (its condition compares with a constant), a branch, a fusion and an asynchronous collective.
PROGRAM = textwrap.dedent("""\
    HloModule jit_step, is_scheduled=true

    %add (x: f32[], y: f32[]) -> f32[] {
      %x = f32[]{:T(256)} parameter(0)
      %y = f32[]{:T(256)} parameter(1)
      ROOT %sum = f32[]{:T(256)} add(%x, %y)
    }

    %condition (p: (s32[], bf16[16,64])) -> pred[] {
      %limit = s32[]{:T(256)} constant(5)
      %p = (s32[]{:T(256)}, bf16[16,64]{1,0:T(8,128)(2,1)}) parameter(0)
      %i = s32[]{:T(256)} get-tuple-element(%p), index=0
      ROOT %lt = pred[]{:T(1024)} compare(%i, %limit), direction=LT
    }

    %fused (a: bf16[16,64], b: bf16[64,64]) -> bf16[16,64] {
      %a = bf16[16,64]{1,0:T(8,128)(2,1)} parameter(0)
      %b = bf16[64,64]{1,0:T(8,128)(2,1)} parameter(1)
      ROOT %product = bf16[16,64]{1,0:T(8,128)(2,1)} convolution(%a, %b), dim_labels=bf_io->bf, metadata={op_name="x"}
    }

    %body (q: (s32[], bf16[16,64])) -> (s32[], bf16[16,64]) {
      %q = (s32[]{:T(256)}, /*index=1*/bf16[16,64]{1,0:T(8,128)(2,1)}) parameter(0)
      %j = s32[]{:T(256)} get-tuple-element(%q), index=0
      %z = bf16[16,64]{1,0:T(8,128)(2,1)} get-tuple-element(%q), index=1
      %w = bf16[64,64]{1,0:T(8,128)(2,1)} constant({...})
      %fusion = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} fusion(%z, %w), kind=kOutput, calls=%fused
      %all = bf16[16,64]{1,0:T(8,128)(2,1)} all-reduce(%fusion), replica_groups=[2,4]<=[8], to_apply=%add
      ROOT %out = (s32[]{:T(256)}, bf16[16,64]{1,0:T(8,128)(2,1)}) tuple(%j, %all)
    }

    %cheap (c: bf16[16,64]) -> bf16[16,64] {
      ROOT %c = bf16[16,64]{1,0:T(8,128)(2,1)} parameter(0)
    }

    %dear (d: bf16[16,64]) -> bf16[16,64] {
      %d = bf16[16,64]{1,0:T(8,128)(2,1)} parameter(0)
      %v = bf16[64,64]{1,0:T(8,128)(2,1)} constant({...})
      ROOT %e = bf16[16,64]{1,0:T(8,128)(2,1)} fusion(%d, %v), kind=kOutput, calls=%fused
    }

    ENTRY %main (start: (s32[], bf16[16,64])) -> bf16[128,64] {
      %start = (s32[]{:T(256)}, bf16[16,64]{1,0:T(8,128)(2,1)}) parameter(0)
      %loop = (s32[]{:T(256)}, bf16[16,64]{1,0:T(8,128)(2,1)}) while(%start), condition=%condition, body=%body
      %r = bf16[16,64]{1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
      %k = s32[]{:T(256)} get-tuple-element(%loop), index=0
      %branch = bf16[16,64]{1,0:T(8,128)(2,1)} conditional(%k, %r, %r), branch_computations={%cheap, %dear}
      %begin = (bf16[16,64]{1,0}, bf16[128,64]{1,0}) all-gather-start(%branch), replica_groups={}, dimensions={0}
      ROOT %end = bf16[128,64]{1,0:T(8,128)(2,1)} all-gather-done(%begin)
    }
    """)
PRODUCT, ARRAY = 2 * 16 * 64 * 64, 2 * 16 * 64  # FLOPs and bytes


def test_loops_branches_and_fusions():
    work = work_of(PROGRAM, 8)
    assert work.flops == 5 * PRODUCT + PRODUCT
    assert work.unknown_loops == 0
    assert work_of(PROGRAM, 8, loops=False).flops == 2 * PRODUCT


def test_collectives_count_what_a_device_sends_in_a_ring():
    collectives = work_of(PROGRAM, 8).collectives
    assert collectives == {"all-reduce": (5, 5 * ARRAY * 2 * 3 / 4), "all-gather": (1, 7 * ARRAY)}


def test_bytes_are_those_that_instructions_read_and_write():
    fusion, reduction, gather = 2 * ARRAY + 2 * 64 * 64, 2 * ARRAY, (1 + 8 + 1) * ARRAY
    assert work_of(PROGRAM, 8).num_bytes == 5 * (fusion + reduction) + fusion + gather


def test_a_loop_whose_length_is_not_in_the_text_counts_once_and_is_told():
    work = work_of(PROGRAM.replace("constant(5)", "parameter(1)"), 8)
    assert (work.flops, work.unknown_loops) == (2 * PRODUCT, 1)


def test_a_loop_whose_length_the_compiler_says():
    text = PROGRAM.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"9"}}')
    assert work_of(text, 8).flops == 10 * PRODUCT


@pytest.mark.parametrize(
    "attributes, size",
    [
        ("channel_id=1, replica_groups={{0,1,2},{3,4,5}}, to_apply=%add", 3),
        ("replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add", 2),
        ("replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, to_apply=%add", 4),
        ("replica_groups=mesh['data'=2,'fsdp'=4] {'data','fsdp'}", 8),
        ("replica_groups=mesh['axis_0'=8] {'axis_0':(2)4}", 4),
        ("replica_groups={}, to_apply=%add", 16),
    ],
)
def test_groups_of_devices(attributes, size):
    assert group_size(attributes, 16) == size


@pytest.mark.parametrize(
    "line, flops",
    [
        (
            "bf16[32,64,64,256]{3,0,2,1:T(8,128)(2,1)} convolution(%a, %b), "
            "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
            2 * 32 * 48 * 256 * (64 * 3 - 2) ** 2,
        ),
        (
            "f32[3,3,48,256]{3,2,1,0} convolution(%a, %c), window={size=64x64 pad=1_1x1_1}, dim_labels=f01b_i01o->01bf",
            2 * 48 * 32 * 256 * (64 * 3 - 2) ** 2,
        ),
    ],
)
def test_convolutions_as_the_compiler_writes_them(line, flops):
    """The second is the gradient of the first one's weights: as many products."""
    text = textwrap.dedent(f"""\
        ENTRY %main (a: bf16[32,64,64,48], b: bf16[3,3,48,256]) -> bf16[] {{
          %a = bf16[32,64,64,48]{{3,0,2,1:T(8,128)(2,1)}} parameter(0)
          %b = bf16[3,3,48,256]{{3,2,1,0:T(8,128)(2,1)}} parameter(1)
          %c = bf16[32,64,64,256]{{3,0,2,1:T(8,128)(2,1)}} parameter(2)
          ROOT %out = {line}
        }}
        """)
    assert work_of(text, 1).flops == flops


def test_a_dot():
    text = textwrap.dedent("""\
        ENTRY %main (a: f32[4,8], b: f32[8,6]) -> f32[4,6] {
          %a = f32[4,8]{1,0} parameter(0)
          %b = f32[8,6]{1,0} parameter(1)
          ROOT %dot = f32[4,6]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
        }
        """)
    assert work_of(text, 1).flops == 2 * 4 * 8 * 6


def test_sizes_of_types():
    module = read_module(
        "ENTRY %m (a: pred[3]) -> pred[3] {\n  ROOT %a = (pred[3]{0}, f8e4m3fn[5], s32[], u4[6]{0}) parameter(0)\n}\n"
    )
    assert [shape.num_bytes for shape in module.computations["m"][0].shapes] == [3, 5, 4, 3]
