"""What a traced function may know of the devices it will run on."""

import jax


def is_partitioned() -> bool:
    """Whether the program that is traced runs on several devices (`parallel.on_mesh`).

    Where arrays are cut up, joining axes or looping over samples would make each device fetch all of them.
    """
    return jax.sharding.get_abstract_mesh().size > 1
