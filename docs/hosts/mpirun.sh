#!/bin/bash
# One run on the hosts of a file, one process on each: bash mpirun.sh
# Change this part. The file has a line for each host, such as "gpu1 slots=1". The hosts have to
# have the same environment at the same path, and to see RUN_DIR.
HOSTS=${HOSTS:-hosts.txt}
RUN_DIR=${RUN_DIR:-/shared/runs/ant}
TRAIN=(jaxdrl train brax/ant --num-shards 32 --run-dir "$RUN_DIR" --resume)
RESTARTS=10

unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY

# mpirun kills its processes a moment after a SIGTERM, and so before they have saved their state.
# It hands SIGUSR1 on to all of them, of which each host makes a SIGTERM.
ON_EACH='trap "kill -TERM \$child" USR1
(trap "" USR1; exec "$@") & child=$!
wait "$child"; code=$?; while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
exit "$code"'

stopped=""
trap 'stopped=1; kill -USR1 "$mpirun"' TERM INT HUP

for _ in $(seq 0 "$RESTARTS"); do
  # Without --bind-to none every process gets one core.
  mpirun --hostfile "$HOSTS" --map-by ppr:1:node --bind-to none -x PATH \
    bash -c "$ON_EACH" train "${TRAIN[@]}" &
  mpirun=$!
  wait "$mpirun"
  code=$?
  while kill -0 "$mpirun" 2>/dev/null; do  # a signal has ended the wait
    wait "$mpirun"
    code=$?
  done
  # 0 done or stopped by a signal, 1 failed, 2 refused; else a process was lost.
  if [ -n "$stopped" ] || [ "$code" -le 2 ]; then
    break
  fi
done
exit "$code"
