#!/bin/bash
# One run by torchrun, on each of the hosts: bash torchrun.sh
# Change this part. RENDEZVOUS is one of the hosts, with a free port.
HOSTS=${HOSTS:-4}
RENDEZVOUS=${RENDEZVOUS:-gpu1:29400}
RUN_DIR=${RUN_DIR:-/shared/runs/ant}
TRAIN=(jaxdrl train brax/ant --num-shards 32 --run-dir "$RUN_DIR" --resume)

# torchrun starts all processes again after any failure, a refusal included, so it gets few tries.
exec torchrun --nnodes="$HOSTS" --nproc-per-node=1 --max-restarts=3 \
  --rdzv-backend=c10d --rdzv-id=ant --rdzv-endpoint="$RENDEZVOUS" \
  --no-python "${TRAIN[@]}"
