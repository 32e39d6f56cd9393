"""One run on the hosts of a Ray cluster. On any of them: python ray_launch.py.

Change the constants. All hosts must have jaxdrl installed, and must see the run directory.
"""

import os
import socket
import subprocess
import sys
import time

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

HOSTS, GPUS, CPUS, RESTARTS = 4, 8, 32, 10
RUN_DIR = "/shared/runs/ant"
COMMAND = ["jaxdrl", "train", "brax/ant", "--num-shards", "32", "--run-dir", RUN_DIR, "--resume"]

FAILED, REFUSED, AGAIN = 1, 2, 75  # exit codes of jaxdrl


@ray.remote(num_cpus=1, max_retries=0)
def address():
    """An address of this host, with a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"


@ray.remote(max_retries=0)
def train(process, coordinator):
    """One process of the run, to its end: the exit code."""
    variables = {
        "JAX_COORDINATOR_ADDRESS": coordinator,
        "JAX_NUM_PROCESSES": str(HOSTS),
        "JAX_PROCESS_ID": str(process),
    }
    child = subprocess.Popen(COMMAND, env=os.environ | variables)
    try:
        while child.poll() is None:
            time.sleep(0.5)  # Ray cannot cancel a task within a system call
        return child.returncode
    except BaseException:  # it has been cancelled: the run saves its state and stops
        child.terminate()
        child.wait()
        raise


def code_of(task):
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:  # the host was lost
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return AGAIN


def train_together():
    """Runs all processes once, each on a host of its own: one exit code for all of them."""
    group = placement_group([{"CPU": CPUS, "GPU": GPUS}] * HOSTS, strategy="STRICT_SPREAD")
    tasks = []
    try:
        ray.get(group.ready())
        there = [PlacementGroupSchedulingStrategy(group, index) for index in range(HOSTS)]
        coordinator = ray.get(address.options(scheduling_strategy=there[0]).remote())
        for process, host in enumerate(there):
            on_host = train.options(num_cpus=CPUS, num_gpus=GPUS, scheduling_strategy=host)
            tasks.append(on_host.remote(process, coordinator))
        codes = [code_of(task) for task in tasks]
    except KeyboardInterrupt:
        for task in tasks:
            ray.cancel(task)
        ray.wait(tasks, num_returns=len(tasks), timeout=60)
        return 130
    finally:
        remove_placement_group(group)
    print(f"exit codes: {codes}", file=sys.stderr)
    for code in (REFUSED, FAILED):
        if code in codes:
            return code
    return AGAIN if any(codes) else 0


def main():
    ray.init(address="auto")
    for _ in range(RESTARTS + 1):
        code = train_together()
        if code != AGAIN:
            break
    sys.exit(code)


if __name__ == "__main__":
    main()
