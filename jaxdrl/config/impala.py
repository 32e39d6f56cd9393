"""Settings of IMPALA. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxdrl.checks import Count, NonNegative, Positive, Share, check_fields
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.rollout_sizes import check_sizes, check_total, num_envs_multiple
from jaxdrl.config.settings import hyperparameter


@dataclass(frozen=True)
class IMPALAConfig:
    """Settings of IMPALA (Espeholt et al. 2018, arXiv:1802.01561).

    Counts are global, floats may be traced values, and None switches a feature off, as in
    `PPOConfig`.

    Raises:
      ConfigError: in the constructor, naming the field, its value and the nearest that works.
    """

    num_envs: Count = 256
    """Environments stepped in parallel, summed over all devices; a multiple of num_shards."""
    num_steps: Count = 20
    """Length of a rollout: steps of each environment in one update, which V-trace looks ahead, and
    which a recurrent policy learns from as one sequence."""
    num_minibatches: Count = 8
    """Gradient steps in one update, each on the rollouts of other environments, with V-trace of the
    policy at that step; divides num_envs / num_shards."""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """The optimiser: RMSProp, as in the paper, or Adam."""
    learning_rate: Positive = hyperparameter(1e-3)
    """Step size of the optimiser."""
    anneal_env_steps: Positive | None = hyperparameter(None)
    """Environment steps over which the learning rate goes linearly to final_learning_rate; None:
    a constant rate."""
    final_learning_rate: NonNegative = hyperparameter(0.0)
    """Learning rate from anneal_env_steps on."""
    optimizer_epsilon: Positive = hyperparameter(1e-5)
    """Epsilon of the optimiser: inside the square root for RMSProp, outside of it for Adam."""
    rmsprop_decay: Share = hyperparameter(0.99)
    """Decay of RMSProp's mean of squared gradients."""
    gamma: Share = hyperparameter(0.99)
    """Discount per step."""
    vtrace_lambda: Share = hyperparameter(1.0)
    """Decay of the trace of V-trace."""
    rho_clip: Positive = hyperparameter(1.0)
    """Bound of the probability ratio that weighs each temporal difference in V-trace and each
    policy gradient."""
    c_clip: Positive = hyperparameter(1.0)
    """Bound of the probability ratio by which V-trace passes a difference on to earlier steps."""
    value_coef: NonNegative = hyperparameter(0.5)
    """Weight of the value loss."""
    entropy_coef: NonNegative = hyperparameter(0.01)
    """Weight of the entropy bonus (nats)."""
    max_grad_norm: Positive | None = hyperparameter(0.5)
    """Global norm to which the gradient is clipped; None: no clipping."""
    normalize_observations: bool = False
    """Normalise observations by running statistics over all environments."""
    observation_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised observations are clipped; None: no clipping."""
    normalize_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""
    reward_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised rewards are clipped; None: no clipping."""
    network: NetworkConfig = NetworkConfig()
    """The policy and value network."""
    execution: ExecutionConfig = ExecutionConfig()
    """How the step is computed."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_total(self)
        check_sizes(self)

    @property
    def row_length(self) -> int:
        """Steps that are shuffled together: a whole rollout."""
        return self.num_steps

    @property
    def num_envs_multiple(self) -> int:
        """What `num_envs` must be a multiple of, for shards and minibatches to be equal."""
        return num_envs_multiple(self)

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps
