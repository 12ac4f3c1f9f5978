"""Exit statuses of `pdm`, which tell a scheduler whether to start the same command again.

| status | means | again? |
|---|---|---|
| 0 | done | no |
| 1 | failed: an error of this program or of a machine, or hosts that did not find each other | yes, it may pass |
| 2 | a mistake, a full disk or a loss that is not finite: one line says what to change | no |
| 75 | SIGTERM (preemption); the checkpoint is saved | yes |
| 130 | Ctrl-C; in training the checkpoint is saved | as the user likes |

A process that loses another one of its run is ended by JAX with SIGABRT (134 in a shell): as 1.
"""

DONE = 0
FAILED = 1
MISTAKE = 2
PREEMPTED = 75  # EX_TEMPFAIL
INTERRUPTED = 130
