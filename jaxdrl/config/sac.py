"""Settings of SAC. Importing this module imports neither jax nor gymnax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jaxdrl.annotations import Bounds
from jaxdrl.checks import Count, NonNegative, Positive, Share, check_fields
from jaxdrl.config.actor_networks import check_networks
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.replay_sizes import check_replay
from jaxdrl.config.settings import hyperparameter


@dataclass(frozen=True)
class SACConfig:
    """Settings of soft actor-critic (Haarnoja et al. 2018, arXiv:1801.01290 and 1812.05905).

    Counts are global, floats may be traced values, and None switches a feature off, as in
    `PPOConfig`. An update acts `num_steps` times in every environment and then takes
    `num_gradient_steps` gradient steps.

    Raises:
      ConfigError: in the constructor, naming the field, its value and the nearest that works.
    """

    num_envs: Count = 8
    """Environments stepped in parallel, summed over all devices; a multiple of num_shards."""
    num_steps: Count = 1
    """Steps of each environment in one update."""
    num_gradient_steps: Count = 8
    """Gradient steps in one update, each on a minibatch of its own."""
    buffer_size: Count = 262_144
    """Steps that the replay buffer keeps, summed over all environments and rounded up to whole
    updates."""
    batch_size: Count = 256
    """Rows of a minibatch, drawn uniformly from the buffer; a multiple of num_shards."""
    learning_starts: Count = 1_000
    """Environment steps before the first gradient step."""
    n_step: Count = 1
    """Rewards that a target adds up before it looks at the target networks."""
    learning_rate: Positive = hyperparameter(3e-4)
    """Step size of Adam for the actor."""
    critic_learning_rate: Positive = hyperparameter(3e-4)
    """Step size of Adam for the critics."""
    temperature_learning_rate: Positive = hyperparameter(3e-4)
    """Step size of Adam for the logarithm of the temperature."""
    anneal_env_steps: Positive | None = hyperparameter(None)
    """Environment steps over which the learning rate goes linearly to final_learning_rate, and the
    other two in the same proportion; None: constant rates."""
    final_learning_rate: NonNegative = hyperparameter(0.0)
    """Learning rate of the actor from anneal_env_steps on."""
    adam_epsilon: Positive = hyperparameter(1e-8)
    """Adam's epsilon."""
    gamma: Share = hyperparameter(0.99)
    """Discount per step."""
    reward_scale: Positive = hyperparameter(1.0)
    """Factor of the rewards that are learnt from; logged returns are without it."""
    target_update_rate: Share = hyperparameter(0.005)
    """How far the target networks go to the critics in every gradient step."""
    learn_temperature: bool = True
    """Learn the temperature, the weight of the entropy, so that the entropy of the policy comes to
    target_entropy; otherwise it is initial_temperature throughout."""
    initial_temperature: Positive = hyperparameter(1.0)
    """Temperature at the start."""
    target_entropy: Annotated[float, Bounds()] = hyperparameter(-1.0)
    """Entropy for each component of an action, in nats, at which the temperature stays; of actions
    in half-widths of their bounds, where that of all actions alike is log 2 = 0.69."""
    hold_noise: bool = False
    """Draw the noise of the actions once for each environment and rollout instead of at every step:
    actions of num_steps steps in a row push the same way, which explores farther."""
    critic_layer_norm: bool = False
    """Layer normalisation before each nonlinearity of the critics, whatever layer_norm says."""
    max_grad_norm: Positive | None = hyperparameter(None)
    """Norm to which the gradients of actor, critics and temperature are clipped, each its own;
    None: no clipping."""
    normalize_observations: bool = False
    """Normalise observations by running statistics over all environments."""
    observation_clip: Positive | None = hyperparameter(10.0)
    """Magnitude to which normalised observations are clipped; None: no clipping."""
    network: NetworkConfig = NetworkConfig(
        hidden_sizes=(256, 256), activation="relu", action_distribution="tanh_normal"
    )
    """The actor and each critic, which share no torso and have no memory."""
    execution: ExecutionConfig = ExecutionConfig()
    """How the step is computed."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_replay(self)
        check_networks(self.network, "tanh_normal")

    @property
    def env_steps_per_update(self) -> int:
        """Environment steps in one update, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps
