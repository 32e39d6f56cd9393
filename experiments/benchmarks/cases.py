"""What is trained, and by whom. Imports the standard library alone: every worker reads it."""

import json
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Case:
    """The work of one update, the same for everyone.

    The network is two separate tanh MLPs, actor and critic, of `hidden_sizes`.
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

    @property
    def env_steps(self) -> int:
        """Environment steps of one update."""
        return self.num_envs * self.num_steps

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of one update."""
        return self.num_epochs * self.num_minibatches

    @property
    def minibatch_size(self) -> int:
        """Samples of one gradient step."""
        return self.env_steps // self.num_minibatches


@dataclass(frozen=True)
class Job:
    """What one worker process does."""

    trainer: str
    """`jaxdrl`, `textbook`, `rejax`, `brax` or `sbx`; `run` for a whole run of jaxdrl, and `actor`
    for one of its actors alone."""
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
