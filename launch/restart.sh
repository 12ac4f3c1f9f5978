#!/usr/bin/env bash
# Runs a command again after a preemption or a crash, until it is done or somebody must act.
#
#   restart.sh MAX_CRASHES SECONDS COMMAND...
#
# The exit codes are those of `pdm train`: 0 done, 2 the user's mistake, 75 preempted with the checkpoint saved, 130
# interrupted; all others are crashes. SECONDS pass before each new start. SIGTERM is passed on, and ends the loop.
set -u
max_crashes=$1 seconds=$2 crashes=0 stopping='' child=''
shift 2

# shellcheck disable=SC2329 # the trap calls it
stop() {
  stopping=yes
  [[ -n $child ]] && kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT

run() { # `wait` is cut short by a signal: then the command still has to save
  "$@" &
  child=$!
  wait "$child"
  status=$?
  if [[ -n $stopping ]]; then
    wait "$child"
    status=$?
  fi
}

while true; do
  run "$@"
  [[ -n $stopping ]] && break
  case $status in
    0 | 2 | 130) break ;;
    75) echo "restart.sh: preempted; starting again in $seconds s" ;;
    *)
      crashes=$((crashes + 1))
      ((crashes > max_crashes)) && break
      echo "restart.sh: crash $crashes of at most $max_crashes, exit code $status; starting again in $seconds s"
      ;;
  esac
  code=$status
  run sleep "$seconds"
  status=$code
  [[ -n $stopping ]] && break
done
echo "restart.sh: ended with exit code $status"
exit "$status"
