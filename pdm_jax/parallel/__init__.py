"""One mesh of devices, and which axis of an array lies on which of its axes."""

from pdm_jax.parallel.mesh import check_rows as check_rows
from pdm_jax.parallel.mesh import make_mesh as make_mesh
from pdm_jax.parallel.mesh import on_mesh as on_mesh
from pdm_jax.parallel.placement import host_share as host_share
from pdm_jax.parallel.placement import place as place
from pdm_jax.parallel.sharding import BATCH_AXES as BATCH_AXES
from pdm_jax.parallel.sharding import batch_sharding as batch_sharding
from pdm_jax.parallel.sharding import batch_shardings as batch_shardings
from pdm_jax.parallel.sharding import gathered as gathered
from pdm_jax.parallel.sharding import image_sharding as image_sharding
from pdm_jax.parallel.sharding import num_batch_shards as num_batch_shards
from pdm_jax.parallel.sharding import param_shardings as param_shardings
from pdm_jax.parallel.sharding import replicated as replicated
from pdm_jax.parallel.sharding import with_shardings as with_shardings
