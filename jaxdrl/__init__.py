"""Distributed reinforcement learning in JAX: pure training steps on every device of the host.

The names of the top level are what a first script or notebook needs; everything else is imported
from its module. They are loaded when they are first used, so that importing this package is quick
and changes no setting of JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdrl.algorithms.dqn import dqn
    from jaxdrl.algorithms.impala import impala
    from jaxdrl.algorithms.ppo.algorithm import ppo
    from jaxdrl.algorithms.pqn import pqn
    from jaxdrl.algorithms.sac import sac
    from jaxdrl.algorithms.settings import make_config, make_experiment
    from jaxdrl.algorithms.td3 import td3
    from jaxdrl.algorithms.training import jit_step, train
    from jaxdrl.analysis.evaluate_run import evaluate_run
    from jaxdrl.analysis.export import export_policy
    from jaxdrl.analysis.figures import plot_style
    from jaxdrl.analysis.learning_curves import plot_runs
    from jaxdrl.analysis.policy_file import load_policy
    from jaxdrl.analysis.render import render_run
    from jaxdrl.config.algorithms import (
        DQNConfig,
        IMPALAConfig,
        PPOConfig,
        PQNConfig,
        SACConfig,
        TD3Config,
    )
    from jaxdrl.config.execution import ExecutionConfig
    from jaxdrl.config.experiment import Experiment
    from jaxdrl.config.network import NetworkConfig
    from jaxdrl.config.search_space import Range, Sweep
    from jaxdrl.config.settings import hyperparameter, with_settings
    from jaxdrl.core import spaces
    from jaxdrl.core.types import Algorithm, Network
    from jaxdrl.distributed.mesh import make_mesh
    from jaxdrl.envs import Environment, make, randomize, time_limit
    from jaxdrl.envs.contract.check import check_environment
    from jaxdrl.envs.host.gymnasium import from_gymnasium
    from jaxdrl.errors import ConfigError
    from jaxdrl.evaluation.episodes import evaluate
    from jaxdrl.evaluation.matches import play
    from jaxdrl.evaluation.tournament import round_robin
    from jaxdrl.launch import resume, run
    from jaxdrl.populations.members import population
    from jaxdrl.populations.pbt import Exchange
    from jaxdrl.populations.state import member
    from jaxdrl.runs.restore import restore
    from jaxdrl.serving.follow import follow

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "ConfigError",
    "DQNConfig",
    "Environment",
    "Exchange",
    "ExecutionConfig",
    "Experiment",
    "IMPALAConfig",
    "Network",
    "NetworkConfig",
    "PPOConfig",
    "PQNConfig",
    "Range",
    "SACConfig",
    "Sweep",
    "TD3Config",
    "check_environment",
    "dqn",
    "evaluate",
    "evaluate_run",
    "export_policy",
    "follow",
    "from_gymnasium",
    "hyperparameter",
    "impala",
    "jit_step",
    "load_policy",
    "make",
    "make_config",
    "make_experiment",
    "make_mesh",
    "member",
    "play",
    "plot_runs",
    "plot_style",
    "population",
    "ppo",
    "pqn",
    "randomize",
    "render_run",
    "restore",
    "resume",
    "round_robin",
    "run",
    "sac",
    "spaces",
    "td3",
    "time_limit",
    "train",
    "with_settings",
]

_HOMES = {
    "Algorithm": "jaxdrl.core.types",
    "ConfigError": "jaxdrl.errors",
    "DQNConfig": "jaxdrl.config.algorithms",
    "Environment": "jaxdrl.envs",
    "Exchange": "jaxdrl.populations.pbt",
    "ExecutionConfig": "jaxdrl.config.execution",
    "Experiment": "jaxdrl.config.experiment",
    "IMPALAConfig": "jaxdrl.config.algorithms",
    "Network": "jaxdrl.core.types",
    "NetworkConfig": "jaxdrl.config.network",
    "PPOConfig": "jaxdrl.config.algorithms",
    "PQNConfig": "jaxdrl.config.algorithms",
    "Range": "jaxdrl.config.search_space",
    "SACConfig": "jaxdrl.config.algorithms",
    "Sweep": "jaxdrl.config.search_space",
    "TD3Config": "jaxdrl.config.algorithms",
    "check_environment": "jaxdrl.envs.contract.check",
    "dqn": "jaxdrl.algorithms.dqn",
    "evaluate": "jaxdrl.evaluation.episodes",
    "evaluate_run": "jaxdrl.analysis.evaluate_run",
    "export_policy": "jaxdrl.analysis.export",
    "follow": "jaxdrl.serving.follow",
    "from_gymnasium": "jaxdrl.envs.host.gymnasium",
    "hyperparameter": "jaxdrl.config.settings",
    "impala": "jaxdrl.algorithms.impala",
    "jit_step": "jaxdrl.algorithms.training",
    "load_policy": "jaxdrl.analysis.policy_file",
    "make": "jaxdrl.envs",
    "make_config": "jaxdrl.algorithms.settings",
    "make_experiment": "jaxdrl.algorithms.settings",
    "make_mesh": "jaxdrl.distributed.mesh",
    "member": "jaxdrl.populations.state",
    "play": "jaxdrl.evaluation.matches",
    "plot_runs": "jaxdrl.analysis.learning_curves",
    "plot_style": "jaxdrl.analysis.figures",
    "population": "jaxdrl.populations.members",
    "ppo": "jaxdrl.algorithms.ppo.algorithm",
    "pqn": "jaxdrl.algorithms.pqn",
    "randomize": "jaxdrl.envs",
    "render_run": "jaxdrl.analysis.render",
    "restore": "jaxdrl.runs.restore",
    "resume": "jaxdrl.launch",
    "round_robin": "jaxdrl.evaluation.tournament",
    "run": "jaxdrl.launch",
    "sac": "jaxdrl.algorithms.sac",
    "spaces": "jaxdrl.core",
    "td3": "jaxdrl.algorithms.td3",
    "time_limit": "jaxdrl.envs",
    "train": "jaxdrl.algorithms.training",
    "with_settings": "jaxdrl.config.settings",
}
"""The module of each public name."""


if not TYPE_CHECKING:  # which would accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'jaxdrl' has no attribute {name!r}")
        module = importlib.import_module(_HOMES[name])
        return getattr(module, name, None) or importlib.import_module(f"{_HOMES[name]}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
