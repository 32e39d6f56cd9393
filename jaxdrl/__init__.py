"""Distributed reinforcement learning in JAX: pure training steps on every device of the host.

The public names are loaded when they are first used, so that importing this package is quick and
changes no setting of JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdrl import networks
    from jaxdrl.algorithms.ppo.algorithm import ppo
    from jaxdrl.algorithms.settings import make_config, make_experiment
    from jaxdrl.algorithms.training import jit_step, train
    from jaxdrl.analysis.evaluate_run import RunEvaluation, evaluate_run, vary_run
    from jaxdrl.analysis.export import Exported, export_policy
    from jaxdrl.analysis.learning_curves import plot_runs
    from jaxdrl.analysis.policy_file import load_policy
    from jaxdrl.analysis.render import render_run
    from jaxdrl.cli.doctor import Diagnosis, diagnose
    from jaxdrl.config.algorithms import PPOConfig
    from jaxdrl.config.execution import ExecutionConfig
    from jaxdrl.config.experiment import Experiment
    from jaxdrl.config.network import NetworkConfig
    from jaxdrl.config.search_space import Range, Sweep
    from jaxdrl.config.settings import hyperparameter, with_settings
    from jaxdrl.core import distributions, losses, returns, spaces
    from jaxdrl.core.types import Algorithm, Network, Policy, TrainState, Transition
    from jaxdrl.distributed.mesh import make_mesh
    from jaxdrl.envs import Environment, from_gymnax, make, randomize, time_limit
    from jaxdrl.envs.contract.check import EnvironmentReport, check_environment
    from jaxdrl.errors import ConfigError
    from jaxdrl.evaluation.episodes import Evaluation, evaluate
    from jaxdrl.evaluation.parameter_grid import RobustnessMap, Variation, vary
    from jaxdrl.launch import resume, run
    from jaxdrl.populations.members import population
    from jaxdrl.populations.pbt import Exchange
    from jaxdrl.populations.state import PopulationState, member
    from jaxdrl.runs.profiling.breakdown import Profile, profile
    from jaxdrl.runs.restore import Restored, restore
    from jaxdrl.runs.train_run import Run

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "ConfigError",
    "Diagnosis",
    "Environment",
    "EnvironmentReport",
    "Evaluation",
    "Exchange",
    "ExecutionConfig",
    "Experiment",
    "Exported",
    "Network",
    "NetworkConfig",
    "PPOConfig",
    "Policy",
    "PopulationState",
    "Profile",
    "Range",
    "Restored",
    "RobustnessMap",
    "Run",
    "RunEvaluation",
    "Sweep",
    "TrainState",
    "Transition",
    "Variation",
    "check_environment",
    "diagnose",
    "distributions",
    "evaluate",
    "evaluate_run",
    "export_policy",
    "from_gymnax",
    "hyperparameter",
    "jit_step",
    "load_policy",
    "losses",
    "make",
    "make_config",
    "make_experiment",
    "make_mesh",
    "member",
    "networks",
    "plot_runs",
    "population",
    "ppo",
    "profile",
    "randomize",
    "render_run",
    "restore",
    "resume",
    "returns",
    "run",
    "spaces",
    "time_limit",
    "train",
    "vary",
    "vary_run",
    "with_settings",
]

_HOMES = {
    "jaxdrl.algorithms.ppo.algorithm": ("ppo",),
    "jaxdrl.envs.contract.check": ("EnvironmentReport", "check_environment"),
    "jaxdrl.config.algorithms": ("PPOConfig",),
    "jaxdrl.errors": ("ConfigError",),
    "jaxdrl.cli.doctor": ("Diagnosis", "diagnose"),
    "jaxdrl.envs": ("Environment", "from_gymnax", "make", "randomize", "time_limit"),
    "jaxdrl.evaluation.episodes": ("Evaluation", "evaluate"),
    "jaxdrl.populations.pbt": ("Exchange",),
    "jaxdrl.config.experiment": ("Experiment",),
    "jaxdrl.config.execution": ("ExecutionConfig",),
    "jaxdrl.config.network": ("NetworkConfig",),
    "jaxdrl.config.settings": ("hyperparameter", "with_settings"),
    "jaxdrl.analysis.export": ("Exported", "export_policy"),
    "jaxdrl.config.search_space": ("Range", "Sweep"),
    "jaxdrl.distributed.mesh": ("make_mesh",),
    "jaxdrl.analysis.learning_curves": ("plot_runs",),
    "jaxdrl.analysis.policy_file": ("load_policy",),
    "jaxdrl.populations.members": ("population",),
    "jaxdrl.populations.state": ("PopulationState", "member"),
    "jaxdrl.analysis.render": ("render_run",),
    "jaxdrl.runs.profiling.breakdown": ("Profile", "profile"),
    "jaxdrl.evaluation.parameter_grid": ("RobustnessMap", "Variation", "vary"),
    "jaxdrl.analysis.evaluate_run": ("RunEvaluation", "evaluate_run", "vary_run"),
    "jaxdrl.launch": ("resume", "run"),
    "jaxdrl.runs.train_run": ("Run",),
    "jaxdrl.runs.restore": ("Restored", "restore"),
    "jaxdrl.algorithms.settings": ("make_config", "make_experiment"),
    "jaxdrl.algorithms.training": ("jit_step", "train"),
    "jaxdrl.core.types": ("Algorithm", "Network", "Policy", "TrainState", "Transition"),
}

_MODULES = {
    "distributions": "jaxdrl.core.distributions",
    "losses": "jaxdrl.core.losses",
    "networks": "jaxdrl.networks",
    "returns": "jaxdrl.core.returns",
    "spaces": "jaxdrl.core.spaces",
}


if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(module), name)
        if name in _MODULES:
            return importlib.import_module(_MODULES[name])
        raise AttributeError(f"module 'jaxdrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
