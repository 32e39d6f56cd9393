"""What the machine can do: rates of matrix products and of copies, and what a program costs."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxdrl
from benchmarks.figures import spread


class Product(NamedTuple):
    """`[rows, inner] x [inner, columns]`."""

    rows: int
    inner: int
    columns: int


def product_flops(product: Product) -> int:
    """A multiplication and an addition for each number that goes into a sum."""
    return 2 * product.rows * product.inner * product.columns


def forward_products(layers: list[tuple[int, int]], batch: int) -> list[Product]:
    """One product a layer, `layers` being `(inputs, outputs)`."""
    return [Product(batch, inputs, outputs) for inputs, outputs in layers]


def gradient_products(
    layers: list[tuple[int, int]], batch: int, obs_size: int
) -> dict[str, list[Product]]:
    """Products of a gradient: forward, for the weights, and for the inputs of all but the first.

    Layers that take `obs_size` inputs come first in `layers`; nobody asks for the gradient of an
    observation.
    """
    num_first = sum(1 for inputs, outputs in layers[:2] if inputs == obs_size)
    return {
        "forward": forward_products(layers, batch),
        "weights": [Product(inputs, batch, outputs) for inputs, outputs in layers],
        "inputs": [Product(batch, outputs, inputs) for inputs, outputs in layers[num_first:]],
    }


def counted_flops(function: Callable, *args: Any) -> float:
    """Floating-point operations of one call by XLA's count, before it optimises.

    It counts a loop as one pass through its body, and a function such as tanh not at all.
    """
    analysis = jax.jit(function).lower(*args).cost_analysis() or {}
    return analysis.get("flops", 0.0)


def time_call(function: Callable, *args: Any, repetitions: int, seconds: float) -> dict[str, float]:
    """Seconds of one call of a jitted function: `spread` over repetitions of `seconds` each."""
    jax.block_until_ready(function(*args))
    started = time.perf_counter()
    jax.block_until_ready(function(*args))
    calls = max(1, round(seconds / max(time.perf_counter() - started, 1e-6)))
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        for _ in range(calls):
            result = function(*args)
        jax.block_until_ready(result)
        times.append((time.perf_counter() - started) / calls)
    return spread(times)


def time_in_turn(
    calls: dict[str, tuple], *, repetitions: int, seconds: float
) -> dict[str, list[float]]:
    """Seconds of one call each, measured A B C A B C ...; a call is `(function, *arguments)`."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repetitions):
        for name, (function, *args) in calls.items():
            taken = time_call(function, *args, repetitions=1, seconds=seconds)
            times[name].append(taken["median"])
    return times


def time_product(
    product: Product, kind: str, *, repetitions: int, seconds: float, devices: int = 1
) -> float:
    """Least seconds of one product, as the network takes it: operands lie as they do there.

    `weights` has its first operand transposed, `inputs` its second. The products run in a loop
    inside one program, because one alone may take less than its call; with several devices each
    computes one at the same time.
    """
    rows, inner, columns = product
    x = jnp.ones((inner, rows) if kind == "weights" else (rows, inner), jnp.float32)
    y = jnp.ones((columns, inner) if kind == "inputs" else (inner, columns), jnp.float32)
    contract = ((0 if kind == "weights" else 1,), (1 if kind == "inputs" else 0,))
    loops = int(max(4, min(2000, 2e8 // product_flops(product))))

    def once(_: int, carry: tuple) -> tuple:
        # Else the compiler would see that every pass gives the same, and do it once.
        _, x, y = jax.lax.optimization_barrier(carry)
        return jax.lax.dot_general(x, y, (contract, ((), ()))), x, y

    def loop(x: jax.Array, y: jax.Array) -> jax.Array:
        start = jnp.zeros((rows, columns), jnp.float32)
        return jax.lax.fori_loop(0, loops, once, (start, x, y))[0]

    on_all = loop
    if devices > 1:
        mesh, spec = jaxdrl.make_mesh(devices), jax.sharding.PartitionSpec
        on_all = jax.shard_map(
            loop, mesh=mesh, in_specs=spec(), out_specs=spec("data"), check_vma=False
        )
    times = time_call(jax.jit(on_all), x, y, repetitions=repetitions, seconds=seconds)
    return times["min"] / loops


def peak_product_rate(size: int, *, repetitions: int, seconds: float) -> float:
    """Floating-point operations per second of a large square product."""
    product = Product(size, size, size)
    least = time_product(product, "forward", repetitions=repetitions, seconds=seconds)
    return product_flops(product) / least


def copy_rate(num_bytes: int, *, repetitions: int, seconds: float) -> float:
    """Bytes per second, read and written, of passes over a large array that stays where it is."""
    passes = 8

    def once(_: int, x: jax.Array) -> jax.Array:
        return -jax.lax.optimization_barrier(x)

    loop = jax.jit(lambda x: jax.lax.fori_loop(0, passes, once, x))
    x = jnp.ones(num_bytes // 4, jnp.float32)
    times = time_call(loop, x, repetitions=repetitions, seconds=seconds)
    return 2 * passes * x.nbytes / times["min"]
