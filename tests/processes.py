"""Programs that run in several processes on this machine, joined by `jax.distributed`."""

import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = str(Path(__file__).parent)

START = """
import sys
import jax
import numpy as np
index, num, devices, port = map(int, sys.argv[1:5])
jax.config.update("jax_num_cpu_devices", devices)
jax.distributed.initialize(f"127.0.0.1:{port}", num, index)
"""


def free_port():
    """A port of this machine that nothing listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run_together(program, num_processes, devices_each, *args, timeout=120):
    """The output of each process; `index` and `num` of the program say which one it is.

    Args:
      program: source of a program that starts once JAX knows of all processes.
      num_processes: number of processes.
      devices_each: simulated devices of each.
      *args: more arguments, `sys.argv[5:]` of the program.
      timeout: seconds after which all are killed.
    """
    port = free_port()
    command = [sys.executable, "-c", START + program]
    processes = [
        subprocess.Popen(
            [*command, *map(str, (index, num_processes, devices_each, port)), *map(str, args)],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": TESTS},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(num_processes)
    ]
    try:
        outputs = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [output for output, _ in outputs]
