"""A policy as an ONNX file, for programs that have neither JAX nor jaxdrl.

jax2onnx converts the policy, and onnxruntime says how the result acts. Both come with the extra
`onnx`, and are imported where they are used.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdrl.analysis.policy_function import PolicyFunction, first_observations
from jaxdrl.analysis.policy_inputs import drop, drop_results
from jaxdrl.analysis.random_observations import random_observations
from jaxdrl.core.types import LearnerState
from jaxdrl.errors import ConfigError
from jaxdrl.runs.restore import Player

SUFFIX = ".onnx"

OPSET = 21
"""The version of ONNX's operations that a file uses; onnxruntime has it since 1.18."""

CHECKED = (1, 7, 256)
"""The numbers of rows for which a file must act as the run does."""

TOLERANCE = 1e-5
"""How far numbers of a file may be from those of the run, absolutely or relatively."""

PACKAGES = ("jax2onnx", "onnxruntime")
"""What the extra `onnx` installs."""

Call = Callable[..., list[np.ndarray[Any, Any]]]
"""What a file does: the arguments of a `PolicyFunction` that it takes -> leaves of its results."""


def require_installed(out: Path) -> None:
    """Raises `ConfigError` if what writes an ONNX file is missing, saying what installs it."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"out = {str(out)!r}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
            "not installed; pip install 'jaxdrl[onnx]', or use .zip"
        )


def convert(out: Path, function: PolicyFunction, learner: LearnerState) -> Any:
    """The policy of a learner as an `onnx.ModelProto`.

    While it works, jax2onnx replaces functions of JAX in the whole process: nothing else should be
    traced in another thread.

    Raises:
      ConfigError: naming the operation that it cannot convert.
    """
    shapes, tree = jax.tree.flatten(function.taken)

    def act(*leaves: Any) -> list[Any]:
        return jax.tree.leaves(function.act_on_taken(learner, *jax.tree.unflatten(tree, leaves)))

    # Traced here, so that what jax2onnx replaces in JAX and Flax has no part in it.
    program = jax.make_jaxpr(act)(*shapes)
    types = {getattr(x.aval, "dtype", None) for step in program.eqns for x in step.outvars}
    if np.dtype(jnp.bfloat16) in types:
        raise _refused(out, "the network computes in bfloat16, which onnxruntime cannot")
    with _silence():
        import jax2onnx

        try:
            model = jax2onnx.to_onnx(
                jax.extend.core.jaxpr_as_fun(program),
                shapes,
                model_name="policy",
                opset=OPSET,
                input_names=input_names(function),
                output_names=output_names(function),
            )
        except Exception as error:  # of any kind, because a converter fails in many ways
            unknown = re.search(r"primitive '([\w.-]+)'", str(error))
            what = f"the operation {unknown[1]} of " if unknown else ""
            why = "" if unknown else f" ({_first_line(error)})"
            raise _refused(out, f"jax2onnx cannot convert {what}this policy{why}") from error
    _without_unused(model.graph)
    return model


def write(path: Path, model: Any, about: dict[str, Any]) -> None:
    """Writes a model with its description, in which what is not a string is JSON."""
    for name, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = name, value if isinstance(value, str) else json.dumps(value)
    path.write_bytes(model.SerializeToString())


def check(out: Path, path: Path, function: PolicyFunction, player: Player) -> None:
    """Refuses a file that does not act as the run does: on observations after a reset, and random.

    Actions that are not floats must be equal, and all other results within `TOLERANCE`. A recurrent
    policy gets the memory that it had after the observations before, and none in half of the rows.

    Args:
      out: what the file will be called.
      path: the file.
      function: the policy.
      player: of the run.

    Raises:
      ConfigError: if it does not, or if onnxruntime cannot run it.
    """
    call, act, rng = _load(out, path), jax.jit(function.act), np.random.default_rng(0)
    # On an accelerator, products of float32 may be those of shorter numbers.
    with jax.default_device(_cpu()):
        learner = jax.device_put(jax.device_get(player.learner), _cpu())
        for num in CHECKED:
            carry = jax.device_get(player.policy.initial_carry(num))
            for obs in _batches(player, learner, num, rng):
                memory = (carry, np.arange(num) % 2 == 0) if function.has_memory else ()
                args = (_as_taken(obs, function.shapes[0]), *memory)
                results = jax.device_get(act(learner, *args))
                expected = jax.tree.leaves(drop_results(function.unread, results))
                actual = call(*drop(function.unread, args))
                if not all(_is_same(a, b) for a, b in zip(expected, actual, strict=True)):
                    raise _refused(out, "it would not act as the run does (please report it)")
                carry = results[1] if function.has_memory else ()


def input_names(function: PolicyFunction) -> list[str]:
    """Names of what a file takes: `obs`, or `obs.NAME` for each entry of a dictionary."""
    roots = ("obs", "carry", "episode_start")
    return [
        name for x, root in zip(function.taken, roots, strict=False) for name in _names(root, x)
    ]


def output_names(function: PolicyFunction) -> list[str]:
    """Names of what a file returns: `action`, and of the memory `next_` with its name."""
    memory = _names("next_carry", function.taken[1]) if function.has_memory else []
    return ["action", *memory]


def _names(root: str, tree: Any) -> list[str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return [f"{root}.{path}" if path else root for path in paths]


def _load(out: Path, path: Path) -> Call:
    """What a file does; refuses one that onnxruntime does not run."""
    with _silence():
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal: what goes wrong is raised as well
    try:
        given, providers = path.read_bytes(), ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(given, options, providers=providers)
    except Exception as error:  # it has a class of its own for each kind
        raise _refused(out, f"onnxruntime cannot run the file ({_first_line(error)})") from error
    names = [x.name for x in session.get_inputs()]

    def call(*args: Any) -> list[np.ndarray[Any, Any]]:
        try:
            return session.run(None, dict(zip(names, jax.tree.leaves(args), strict=True)))
        except Exception as error:
            why = f"onnxruntime cannot run the file ({_first_line(error)})"
            raise _refused(out, why) from error

    return call


def _batches(
    player: Player, learner: LearnerState, num: int, rng: np.random.Generator
) -> Iterator[Any]:
    """Observations to compare on, `[num, ...]`: after a reset, and twice random ones."""
    yield first_observations(player.env, num)
    for _ in range(2):
        yield random_observations(player.env.observation_space, learner, num, rng)


def _as_taken(obs: Any, shapes: Any) -> Any:
    """Observations in the types that the policy takes."""
    return jax.tree.map(lambda x, shape: np.asarray(x, shape.dtype), obs, shapes)


def _is_same(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> bool:
    if (expected.dtype, expected.shape) != (actual.dtype, actual.shape):
        return False
    if expected.dtype.kind != "f":
        return np.array_equal(expected, actual)
    return np.allclose(expected, actual, rtol=TOLERANCE, atol=TOLERANCE)


def _cpu() -> jax.Device | None:
    """A CPU as JAX has it; None where the process has none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing is printed, warned of or logged, and the loggers are afterwards what they were.

    A call such as `logging.info`, which jax2onnx makes, gives the root logger a handler if it has
    none.
    """
    nowhere, disabled = logging.NullHandler(), logging.root.manager.disable
    logging.root.addHandler(nowhere)
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.removeHandler(nowhere)


def _without_unused(graph: Any) -> set[str]:
    """Removes constants that nothing reads, of which onnxruntime warns; the names that are read."""
    read = {x.name for x in graph.output}
    for node in graph.node:
        read.update(node.input)
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                read |= _without_unused(inner)
    kept = [x for x in graph.initializer if x.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return read


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _refused(out: Path, why: str) -> ConfigError:
    return ConfigError(f"out = {str(out)!r}: {why}; a name that ends in .zip works")
