"""The kinds of reference cases: a module a kind, named as the first part of the path of its cases, or its beginning:
`ldm_unet` runs `ldm_unet_concat`.

A kind has `INPUTS`, patterns of the names of arrays that are given to it, and `run(case) -> {name: array}`, which
computes all others from the case's meta, inputs and weights. It may have `expected(meta) -> {name: number}` for
reference numbers that stand in the meta, and `TRAJECTORIES`, patterns of arrays with that (looser) tolerance.
"""

from tests.parity_kinds._case import Case as Case
from tests.parity_kinds._case import kind_of as kind_of
from tests.parity_kinds._case import kinds as kinds
from tests.parity_kinds._case import open_case as open_case
