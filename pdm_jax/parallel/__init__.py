"""One mesh of devices, and which axis of an array lies on which of its axes."""

from pdm_jax.parallel.mesh import make_mesh as make_mesh
from pdm_jax.parallel.sharding import batch_sharding as batch_sharding
from pdm_jax.parallel.sharding import param_shardings as param_shardings
from pdm_jax.parallel.sharding import replicated as replicated
from pdm_jax.parallel.sharding import with_shardings as with_shardings
