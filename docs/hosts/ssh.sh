#!/bin/bash
# One run on hosts that ssh reaches without a password, one process on each: bash ssh.sh
# Change this part. The first host has process 0; all hosts have to reach it under this name, and
# to see RUN_DIR.
read -ra HOSTS <<<"${HOSTS:-gpu1 gpu2 gpu3 gpu4}"
PORT=8476
RUN_DIR=${RUN_DIR:-/shared/runs/ant}
TRAIN="jaxdrl train brax/ant --num-shards 32 --run-dir $RUN_DIR --resume"
ACTIVATE=". ${VENV:-/shared/jaxdrl/.venv}/bin/activate"
RESTARTS=10

# A terminal (-tt) on each host: when ssh ends, the process there gets SIGHUP, saves its state and
# stops.
start() {
  variables="JAX_COORDINATOR_ADDRESS=${HOSTS[0]}:$PORT JAX_NUM_PROCESSES=${#HOSTS[@]}"
  exec ssh -tt -o BatchMode=yes -o ServerAliveInterval=5 -o ServerAliveCountMax=3 "${HOSTS[$1]}" \
    "$ACTIVATE && exec env $variables JAX_PROCESS_ID=$1 $TRAIN" </dev/null
}

stopped=""
trap 'stopped=1; kill "${processes[@]}" 2>/dev/null' TERM INT HUP

for _ in $(seq 0 "$RESTARTS"); do
  processes=()
  for index in "${!HOSTS[@]}"; do
    start "$index" &
    processes+=($!)
  done
  codes=()
  for process in "${processes[@]}"; do
    wait "$process"
    codes+=($?)
  done
  echo "exit codes: ${codes[*]}" >&2
  # 0 done or stopped by a signal, 1 failed, 2 refused; else a process or a host was lost.
  code=0
  for one in "${codes[@]}"; do
    case $one in
      0) ;;
      1 | 2) code=$one && break ;;
      *) code=75 ;;
    esac
  done
  if [ -n "$stopped" ]; then
    exit 130
  elif [ "$code" -le 2 ]; then
    break
  fi
done
exit "$code"
