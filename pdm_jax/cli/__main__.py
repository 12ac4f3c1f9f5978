"""`python -m pdm_jax.cli` is `pdm`."""

import sys

from pdm_jax.cli.main import main

sys.exit(main())
