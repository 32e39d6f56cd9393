"""What is trained, and by whom. Imports the standard library alone: every worker reads it."""

import json
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Case:
    """The work of one update, the same for everyone.

    PPO's network is two separate tanh MLPs, actor and critic, of `hidden_sizes`; those of the other
    algorithms are MLPs of such layers with ReLU.
    """

    env: str
    """A gymnax environment, or `Costly`, whose reset takes as long as 100 steps; for runs with
    actors one of the host, such as `envpool/CartPole-v1`."""
    num_envs: int
    """Environments."""
    num_steps: int
    """Steps of each in one update."""
    num_epochs: int = 4
    """Passes over them."""
    num_minibatches: int = 4
    """Gradient steps in a pass."""
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the hidden layers of each network."""
    normalize: bool = False
    """Whether observations and rewards are normalised by running statistics."""
    algorithm: str = "ppo"
    """What learns: an algorithm of jaxdrl, and that of the same name of a peer."""
    num_gradient_steps: int = 0
    """Gradient steps of an update from a replay buffer, in place of epochs and minibatches."""
    batch_size: int = 0
    """Samples of each."""
    buffer_size: int = 0
    """Environment steps that the replay buffer holds; 0: there is none."""
    learning_starts: int = 0
    """Environment steps before the first gradient step; runs are timed after them."""

    @property
    def env_steps(self) -> int:
        """Environment steps of one update."""
        return self.num_envs * self.num_steps

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of one update."""
        return self.num_gradient_steps or self.num_epochs * self.num_minibatches

    @property
    def minibatch_size(self) -> int:
        """Samples of one gradient step."""
        return self.batch_size or self.env_steps // self.num_minibatches


@dataclass(frozen=True)
class Job:
    """What one worker process does."""

    trainer: str
    """`jaxdrl`, `textbook`, `rejax`, `brax` or `sbx`; `looped` for jaxdrl with all updates of a run
    in one program, `run` for a whole run of it, and `actor` for one of its actors alone."""
    case: Case
    """The work of an update."""
    updates: int
    """Updates in one run."""
    devices: int = 1
    """Devices, simulated where there is a CPU only; above 1 for jaxdrl alone."""
    members: int = 0
    """Agents that do the work of the case each, in one program; 0 for a single one."""
    num_shards: int = 8
    """Logical shards, of jaxdrl."""
    reproducible: bool = False
    """Whether jaxdrl computes in reproducible mode."""
    staleness: int = 0
    """How many updates old the data of a `run` is."""
    learner_devices: int | None = None
    """Devices that a `run` learns on; None for its default."""
    actor_devices: int | None = None
    """Devices that a `run` acts on besides; None for its default."""
    directory: str = ""
    """Where a `run` writes its files."""

    @property
    def env_steps(self) -> int:
        """Environment steps of one update of all members."""
        return max(1, self.members) * self.case.env_steps


CASES = {
    "cartpole-256": Case("CartPole-v1", 256, 128),
    "cartpole-2048": Case("CartPole-v1", 2048, 128),
    "breakout-64": Case("Breakout-MinAtar", 64, 128),
    "pendulum-256": Case("Pendulum-v1", 256, 128, normalize=True),
}
HOST_CASES = {
    "envpool-cartpole": Case("envpool/CartPole-v1", 512, 64),
    "gymnasium-cartpole": Case("gymnasium/CartPole-v1", 64, 128),
    "gymnasium-halfcheetah": Case(
        "gymnasium/HalfCheetah-v5", 16, 128, num_epochs=10, num_minibatches=16, normalize=True
    ),
}
"""Environments of the host, for runs with actors; HalfCheetah as in its preset."""
_OFF_POLICY = Case(
    "Pendulum-v1",
    *(8, 1),
    num_gradient_steps=8,
    batch_size=256,
    buffer_size=51_200,
    learning_starts=1_000,
)
ALGORITHM_CASES = {
    "pqn": Case("CartPole-v1", 64, 32, num_minibatches=16, algorithm="pqn"),
    "dqn": replace(
        _OFF_POLICY,
        env="CartPole-v1",
        num_envs=10,
        num_gradient_steps=5,
        batch_size=64,
        algorithm="dqn",
    ),
    "sac": replace(_OFF_POLICY, algorithm="sac"),
    "td3": replace(_OFF_POLICY, algorithm="td3"),
}
"""By algorithm: with a replay buffer, a gradient step for each step of Pendulum, and one for two of
CartPole. Networks are those of rejax and of our presets; with 256-256 matrix products are nearly
all of the time of SAC and TD3."""
TINY = Case("Costly", 16, 8, num_epochs=2, num_minibatches=2, hidden_sizes=(8,))
"""For `--smoke`."""
TINY_HOST = replace(TINY, env="gymnasium/CartPole-v1")
"""The same with an environment of the host."""

# Settings that decide what is learned and not how long it takes; each trainer has them by its own
# names.
LEARNING_RATE = 3e-4
ADAM_EPSILON = 1e-5
GAMMA = 0.99
GAE_LAMBDA = 0.95
CLIP_EPSILON = 0.2
VALUE_COEF = 0.5
ENTROPY_COEF = 0.01
MAX_GRAD_NORM = 0.5


def to_json(job: Job) -> str:
    """One line that `from_json` reads."""
    return json.dumps(asdict(job))


def from_json(text: str) -> Job:
    """The job that `to_json` wrote."""
    fields = json.loads(text)
    case = fields["case"]
    case["hidden_sizes"] = tuple(case["hidden_sizes"])
    return Job(**{**fields, "case": Case(**case)})
