"""Settings of TD3. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Annotated

from jaxdrl.annotations import Bounds
from jaxdrl.checks import Count, NonNegative, Positive, Share, check_fields, require
from jaxdrl.config.actor_networks import check_networks
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.replay_sizes import check_replay
from jaxdrl.config.settings import hyperparameter

NumAtoms = Annotated[int, Bounds(2)]


@dataclass(frozen=True)
class TD3Config:
    """Settings of TD3 (Fujimoto et al. 2018, arXiv:1802.09477) and FastTD3 (arXiv:2505.22642).

    Counts are global, floats may be traced values, and None switches a feature off, as in
    `PPOConfig`. An update acts `num_steps` times in every environment and then takes
    `num_gradient_steps` gradient steps. Noise is in half-widths of the action bounds.

    Raises:
      ConfigError: in the constructor, naming the field, its value and the nearest that works.
    """

    num_envs: Count = 8
    """Environments stepped in parallel, summed over all devices; a multiple of num_shards."""
    num_steps: Count = 1
    """Steps of each environment in one update."""
    num_gradient_steps: Count = 8
    """Gradient steps of the critics in one update, each on a minibatch of its own."""
    policy_delay: Count = 2
    """Gradient steps of the critics for one of the actor and of the target networks."""
    buffer_size: Count = 262_144
    """Steps that the replay buffer keeps, summed over all environments and rounded up to whole
    updates."""
    batch_size: Count = 256
    """Rows of a minibatch, drawn uniformly from the buffer; a multiple of num_shards."""
    learning_starts: Count = 1_000
    """Environment steps before the first gradient step, with actions drawn from all alike."""
    n_step: Count = 1
    """Rewards that a target adds up before it looks at the target networks."""
    learning_rate: Positive = hyperparameter(3e-4)
    """Step size of Adam for the actor."""
    critic_learning_rate: Positive = hyperparameter(3e-4)
    """Step size of Adam for the critics."""
    anneal_env_steps: Positive | None = hyperparameter(None)
    """Environment steps over which the learning rate goes linearly to final_learning_rate, and that
    of the critics in the same proportion; None: constant rates."""
    final_learning_rate: NonNegative = hyperparameter(0.0)
    """Learning rate of the actor from anneal_env_steps on."""
    adam_epsilon: Positive = hyperparameter(1e-8)
    """Adam's epsilon."""
    gamma: Share = hyperparameter(0.99)
    """Discount per step."""
    reward_scale: Positive = hyperparameter(1.0)
    """Factor of the rewards that are learnt from; logged returns are without it."""
    target_update_rate: Share = hyperparameter(0.005)
    """How far the target networks go to actor and critics whenever these are due."""
    min_exploration_noise: Positive = hyperparameter(0.1)
    """Standard deviation of the noise on the actions of the first environment."""
    max_exploration_noise: Positive = hyperparameter(0.1)
    """Standard deviation of the noise on the actions of the last environment; those between are
    spread evenly."""
    target_noise: NonNegative = hyperparameter(0.2)
    """Standard deviation of the noise on the target actor's actions, over which it smooths their
    values."""
    target_noise_clip: NonNegative = hyperparameter(0.5)
    """Magnitude to which that noise is clipped."""
    num_atoms: NumAtoms | None = None
    """Returns, spread evenly from v_min to v_max, that each critic gives probabilities to
    (Bellemare et al. 2017, arXiv:1707.06887); None: it gives the mean return."""
    v_min: Annotated[float, Bounds()] = hyperparameter(-250.0)
    """The lowest return that these critics know, of rewards times reward_scale."""
    v_max: Annotated[float, Bounds()] = hyperparameter(250.0)
    """The highest."""
    critic_layer_norm: bool = False
    """Layer normalisation before each nonlinearity of the critics, whatever layer_norm says."""
    max_grad_norm: Positive | None = hyperparameter(None)
    """Norm to which the gradients of actor and critics are clipped, each its own; None: no
    clipping."""
    normalize_observations: bool = False
    """Normalise observations by running statistics over all environments."""
    observation_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised observations are clipped; None: no clipping."""
    network: NetworkConfig = NetworkConfig(hidden_sizes=(256, 256), activation="relu")
    """The actor and each critic, which share no torso and have no memory. The actor's output goes
    through tanh, and has no log_std to begin with."""
    execution: ExecutionConfig = ExecutionConfig()
    """How the step is computed."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_replay(self)
        check_networks(self.network, "normal")
        low, high = self.min_exploration_noise, self.max_exploration_noise
        if _are_known(low, high):
            works = f"must be at least min_exploration_noise = {low}"
            require(high >= low, "max_exploration_noise", high, works)
        if _are_known(self.v_min, self.v_max):
            works = f"must be above v_min = {self.v_min}"
            require(self.v_max > self.v_min, "v_max", self.v_max, works)

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps


def _are_known(*values: object) -> bool:
    """Whether none of the values is traced."""
    return all(isinstance(value, numbers.Real) for value in values)
