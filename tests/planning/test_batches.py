"""The largest batch: the line, what confirms it, and compilers that disagree with it."""

import pytest

from pdm_jax.planning.batches import LargestBatch, largest_batch, predicted
from tests.planning.made_up import GIB, measured


def compiler(cost, available):
    """Compiles a batch that needs cost(batch) bytes on a device that has `available`; says how often it was asked."""
    asked = []

    def compile_batch(batch):
        asked.append(batch)
        fits = cost(batch) <= available
        return measured(peak_bytes=cost(batch), fits=fits, available_bytes=None if fits else available)

    return compile_batch, asked


def test_two_points_make_a_line():
    assert predicted({8: 2 * GIB, 16: 3 * GIB}, 8 * GIB, 8) == 56
    assert predicted({8: 2 * GIB, 16: 3 * GIB}, 7.9 * GIB, 8) == 48
    assert predicted({8: 9 * GIB, 16: 12 * GIB}, 5 * GIB, 8) == 0


def test_the_line_is_of_the_two_batches_nearest_to_the_limit():
    assert predicted({8: 1 * GIB, 16: 3 * GIB, 24: 4 * GIB}, 8 * GIB, 8) == 56
    assert predicted({8: 9 * GIB, 16: 12 * GIB, 24: 99 * GIB}, 10 * GIB, 1) == 10
    assert predicted({8: 1 * GIB, 16: 3 * GIB, 24: 13 * GIB, 32: 99 * GIB}, 8 * GIB, 4) == 20


def test_memory_that_does_not_grow_says_nothing():
    assert predicted({8: 3 * GIB, 16: 3 * GIB}, 8 * GIB, 8) == 16


def test_a_third_compilation_confirms():
    compile_batch, asked = compiler(lambda batch: (1 + batch / 64) * GIB, available=8 * GIB)
    assert largest_batch(compile_batch, 128, 8, 8 * GIB) == LargestBatch(448, "confirmed")
    assert asked == [128, 64, 448]


@pytest.mark.parametrize("batch, other", [(8, 16), (24, 8), (40, 16)])
def test_the_second_batch_is_half_or_twice(batch, other):
    compile_batch, asked = compiler(lambda batch: GIB + batch, available=GIB + 1000)
    assert largest_batch(compile_batch, batch, 8, GIB + 1000).size == 1000
    assert asked == [batch, other, 1000]


def test_what_the_compiler_keeps_for_itself_is_learned():
    compile_batch, asked = compiler(lambda batch: (1 + batch / 64) * GIB, available=7.5 * GIB)
    assert largest_batch(compile_batch, 128, 8, 8 * GIB) == LargestBatch(400, "confirmed")
    assert asked == [128, 64, 448, 400]


def test_a_batch_that_is_too_large_finds_the_one_that_fits():
    compile_batch, asked = compiler(lambda batch: (1 + batch / 16) * GIB, available=8 * GIB)
    assert largest_batch(compile_batch, 256, 16, 8 * GIB) == LargestBatch(112, "confirmed")
    assert asked == [256, 128, 112]


def test_memory_that_bends_gives_the_largest_that_did_fit():
    compile_batch, asked = compiler(lambda batch: (1 + (batch / 100) ** 3) * GIB, available=8 * GIB)
    assert largest_batch(compile_batch, 64, 8, 8 * GIB) == LargestBatch(64, "at least")
    assert asked == [64, 32, 1000]


def test_batches_that_are_all_too_large_lead_down_to_one_that_fits():
    compile_batch, asked = compiler(lambda batch: max(batch / 16, 4.2 + batch / 32) * GIB, available=8 * GIB)
    assert largest_batch(compile_batch, 1024, 8, 8 * GIB) == LargestBatch(120, "confirmed")
    assert asked == [1024, 512, 128, 120]


def test_weights_that_are_too_large_leave_no_room():
    compile_batch, _ = compiler(lambda batch: (9 + batch / 64) * GIB, available=8 * GIB)
    assert largest_batch(compile_batch, 64, 8, 8 * GIB).size == 0
