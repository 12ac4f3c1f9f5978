"""Names of slices, their devices and their chips."""

import pytest

from pdm_jax.errors import UserError
from pdm_jax.planning.slices import ALL, SLICES, find_slices


@pytest.mark.parametrize(
    "name, topology, chips, devices, gib",
    [
        ("v2-8", "v2:2x2", 4, 8, 8),
        ("v3-32", "v3:4x4", 16, 32, 16),
        ("v4-128", "v4:4x4x4", 64, 64, 32),
        ("v5p-8", "v5p:2x2x1", 4, 4, 95),
        ("v5p-12288", "v5p:16x16x24", 6144, 6144, 95),
        ("v5e-256", "v5e:16x16", 256, 256, 16),
        ("v5litepod-8", "v5e:2x4", 8, 8, 16),
        ("v6e-1", "v6e:1x1", 1, 1, 32),
    ],
)
def test_names_as_users_of_cloud_tpu_write_them(name, topology, chips, devices, gib):
    (found,) = find_slices(name)
    assert (found.topology, found.num_chips, found.num_devices) == (topology, chips, devices)
    assert found.memory == gib * 2**30


def test_lists_and_all():
    assert [each.name for each in find_slices("v2-8, v5e-4,v2-8")] == ["v2-8", "v5e-4"]
    assert [each.name for each in find_slices("all")] == list(ALL)
    assert {name.partition("-")[0] for name in ALL} == {name.partition("-")[0] for name in SLICES}


@pytest.mark.parametrize(
    "names, message",
    [
        ("v2-9", "there is no topology 'v2-9'; expected one of v2-{8,32,128,256,512}"),
        ("h100", r"there is no topology 'h100'; expected all or one of v2-.*; v6e-\{1,4,8,16,32,64,128,256\}$"),
        ("", "there is no topology ''"),
    ],
)
def test_what_does_not_exist(names, message):
    with pytest.raises(UserError, match=message):
        find_slices(names)
