"""Distributed reinforcement learning in JAX: pure training steps on every device of the host.

The public names are loaded when they are first used, so that importing this package is quick and
changes no setting of JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdrl import distributions, losses, networks, returns, spaces
    from jaxdrl.algorithms.ppo import ppo
    from jaxdrl.checking import EnvironmentReport, check_environment
    from jaxdrl.config import PPOConfig
    from jaxdrl.doctor import Diagnosis, diagnose
    from jaxdrl.envs import Environment, from_gymnax, make, randomize, time_limit
    from jaxdrl.errors import ConfigError
    from jaxdrl.evaluation import Evaluation, evaluate
    from jaxdrl.exchange import Exchange
    from jaxdrl.experiment import Experiment
    from jaxdrl.exporting import Exported, export_policy
    from jaxdrl.hyperparams import Range, Sweep
    from jaxdrl.mesh import make_mesh
    from jaxdrl.plotting import plot_runs
    from jaxdrl.policy_file import load_policy
    from jaxdrl.populations import PopulationState, member, population
    from jaxdrl.profiling import Profile, profile
    from jaxdrl.rendering import render_run
    from jaxdrl.restoring import Restored, restore
    from jaxdrl.robustness import RobustnessMap, Variation, vary
    from jaxdrl.run_evaluation import RunEvaluation, evaluate_run, vary_run
    from jaxdrl.runner import Run, resume, run
    from jaxdrl.tasks import make_config, make_experiment
    from jaxdrl.training import compile, train
    from jaxdrl.types import Algorithm, Network, Policy, TrainState, Transition

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "ConfigError",
    "Diagnosis",
    "Environment",
    "EnvironmentReport",
    "Evaluation",
    "Exchange",
    "Experiment",
    "Exported",
    "Network",
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
    "compile",
    "diagnose",
    "distributions",
    "evaluate",
    "evaluate_run",
    "export_policy",
    "from_gymnax",
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
]

_HOMES = {
    "jaxdrl.algorithms.ppo": ("ppo",),
    "jaxdrl.checking": ("EnvironmentReport", "check_environment"),
    "jaxdrl.config": ("PPOConfig",),
    "jaxdrl.errors": ("ConfigError",),
    "jaxdrl.doctor": ("Diagnosis", "diagnose"),
    "jaxdrl.envs": ("Environment", "from_gymnax", "make", "randomize", "time_limit"),
    "jaxdrl.evaluation": ("Evaluation", "evaluate"),
    "jaxdrl.exchange": ("Exchange",),
    "jaxdrl.experiment": ("Experiment",),
    "jaxdrl.exporting": ("Exported", "export_policy"),
    "jaxdrl.hyperparams": ("Range", "Sweep"),
    "jaxdrl.mesh": ("make_mesh",),
    "jaxdrl.plotting": ("plot_runs",),
    "jaxdrl.policy_file": ("load_policy",),
    "jaxdrl.populations": ("PopulationState", "member", "population"),
    "jaxdrl.rendering": ("render_run",),
    "jaxdrl.profiling": ("Profile", "profile"),
    "jaxdrl.robustness": ("RobustnessMap", "Variation", "vary"),
    "jaxdrl.run_evaluation": ("RunEvaluation", "evaluate_run", "vary_run"),
    "jaxdrl.runner": ("Run", "resume", "run"),
    "jaxdrl.restoring": ("Restored", "restore"),
    "jaxdrl.tasks": ("make_config", "make_experiment"),
    "jaxdrl.training": ("compile", "train"),
    "jaxdrl.types": ("Algorithm", "Network", "Policy", "TrainState", "Transition"),
}


if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(module), name)
        if name in __all__:
            return importlib.import_module(f"jaxdrl.{name}")
        raise AttributeError(f"module 'jaxdrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
