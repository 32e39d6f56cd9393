"""A process that trains by PPO or SAC of brax: `python -m benchmarks.peer_brax JOB`, likewise.

Its policies are continuous, so it has Pendulum alone, written below as an environment of brax
with the dynamics, reward, observation, start and time limit of gymnax's. Its `train` is one
function that returns when all is done; a run is one of its "epochs", entered from its progress
callback, and timed by its own clock, which leaves out what it does between them.

Where the work of PPO differs from ours, by its version 0.14.2:

- whole trajectories are shuffled, not steps, so that a minibatch holds every step of a quarter of
  the environments;
- advantages and values are computed anew in every gradient step, by a pass over the minibatch and
  its last observations;
- rewards are not normalised by a running deviation, which it does not have;
- observation statistics are updated once an update, before the gradient steps;
- an episode begins again at the environment's own first state, kept: no reset is computed;
- the policy is a normal squashed by tanh, with a deviation that depends on the observation;
- a step at which a time limit cuts an episode short is masked out of the advantages;
- it computes KL divergences and statistics of the distribution as metrics.

Where that of SAC differs:

- the minibatches of an update are drawn at once, from the whole buffer, which has each observation
  twice; where it is full, an insertion that would pass its end moves all of it;
- actor, critics and temperature have an optimiser and a pass each, one after the other, and the
  temperature samples actions of its own; ours have one loss and one gradient of all parameters;
- what follows a step at which a time limit cuts an episode is not learnt from;
- an episode begins again at the environment's own first state, kept: no reset is computed;
- gradients are not clipped, and there are no metrics of episodes.

Both need jax 0.9, where ours has 0.10.
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import cases, serving
from benchmarks.cases import Job, from_json

EPISODE_STEPS = 200
NEVER = 10**6
"""Epochs that training is planned for; the process is ended before."""


def pendulum() -> Any:
    """Pendulum-v1 as an environment of brax; its state is `(angle, speed)`."""
    from brax.envs.base import Env, State  # type: ignore[import-not-found]

    def observe(state: jax.Array) -> jax.Array:
        return jnp.stack([jnp.cos(state[0]), jnp.sin(state[0]), state[1]])

    class Pendulum(Env):
        """The methods that brax asks for."""

        def reset(self, rng: jax.Array) -> Any:
            high = jnp.array([jnp.pi, 1.0])
            state = jax.random.uniform(rng, (2,), minval=-high, maxval=high)
            return State(state, observe(state), jnp.zeros(()), jnp.zeros(()))

        def step(self, state: Any, action: jax.Array) -> Any:
            angle, speed = state.pipeline_state
            moved, reward = pendulum_step(angle, speed, 2.0 * action[0])
            return state.replace(pipeline_state=moved, obs=observe(moved), reward=reward)

        observation_size = 3
        action_size = 1
        backend = "none"

    return Pendulum()


def pendulum_step(
    angle: jax.Array, speed: jax.Array, torque: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`((angle, speed), reward)` after 0.05 s: g = 10, mass and length 1, |torque| <= 2."""
    torque = jnp.clip(torque, -2.0, 2.0)
    wrapped = (angle + jnp.pi) % (2.0 * jnp.pi) - jnp.pi
    reward = -(wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2)
    speed = jnp.clip(speed + 0.05 * (15.0 * jnp.sin(angle) + 3.0 * torque), -8.0, 8.0)
    return jnp.stack([angle + 0.05 * speed, speed]), reward


def trainer(job: Job) -> tuple[Callable, dict[str, Any]]:
    """`(train, its arguments)` with the job's work."""
    if job.case.algorithm == "sac":
        from brax.training.agents.sac import train as sac  # type: ignore[import-not-found]

        return sac.train, sac_settings(job)
    from brax.training.agents.ppo import train as ppo  # type: ignore[import-not-found]

    return ppo.train, ppo_settings(job)


def prefilled(job: Job) -> int:
    """Environment steps that it takes before the first epoch: whole steps of all copies."""
    num_envs = job.case.num_envs
    return -(-job.case.learning_starts // num_envs) * num_envs


def sac_settings(job: Job) -> dict[str, Any]:
    """Arguments of SAC."""
    from brax.training.agents.sac import networks  # type: ignore[import-not-found]

    case = job.case
    return {
        "num_timesteps": prefilled(job) + NEVER * job.updates * case.env_steps,
        "num_evals": NEVER + 1,
        "num_eval_envs": 1,  # it cannot do without
        "num_envs": case.num_envs,
        "episode_length": EPISODE_STEPS,
        "min_replay_size": case.learning_starts,
        "max_replay_size": case.buffer_size,
        "batch_size": case.batch_size,
        "grad_updates_per_step": case.num_gradient_steps,
        "learning_rate": cases.LEARNING_RATE,
        "discounting": cases.GAMMA,
        "network_factory": functools.partial(
            networks.make_sac_networks,
            hidden_layer_sizes=case.hidden_sizes,
            activation=jax.nn.relu,
        ),
    }


def ppo_settings(job: Job) -> dict[str, Any]:
    """Arguments of PPO."""
    from brax.training.agents.ppo import networks  # type: ignore[import-not-found]

    case = job.case
    return {
        "num_timesteps": NEVER * job.updates * case.env_steps,
        "num_evals": NEVER + 1,
        "run_evals": False,
        "num_envs": case.num_envs,
        "episode_length": EPISODE_STEPS,
        "unroll_length": case.num_steps,
        "batch_size": case.num_envs // case.num_minibatches,
        "num_minibatches": case.num_minibatches,
        "num_updates_per_batch": case.num_epochs,
        "normalize_observations": case.normalize,
        "learning_rate": cases.LEARNING_RATE,
        "entropy_cost": cases.ENTROPY_COEF,
        "discounting": cases.GAMMA,
        "gae_lambda": cases.GAE_LAMBDA,
        "clipping_epsilon": cases.CLIP_EPSILON,
        "vf_loss_coefficient": cases.VALUE_COEF,
        "max_grad_norm": cases.MAX_GRAD_NORM,
        "network_factory": functools.partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=case.hidden_sizes,
            value_hidden_layer_sizes=case.hidden_sizes,
            activation=jnp.tanh,
        ),
    }


def main() -> None:
    """Does the job of the command line."""
    channel, job = serving.open_channel(), from_json(sys.argv[1])
    if job.case.env != "Pendulum-v1":
        sys.exit(f"env = {job.case.env!r}: brax trains Pendulum-v1 alone here")
    train, settings = trainer(job)
    env_steps, walltimes, started = job.updates * job.case.env_steps, [], time.perf_counter()

    def progress(steps: int, metrics: dict[str, Any]) -> None:
        if "training/walltime" not in metrics:  # its evaluation before training
            return
        walltimes.append(float(metrics["training/walltime"]))
        work = prefilled(job) + len(walltimes) * env_steps
        if steps != work:
            sys.exit(f"brax did {steps} steps; {work} were its work")
        if len(walltimes) < 3:  # two compile: its state changes type after the first
            return
        if len(walltimes) == 3:
            serving.say(channel, serving.facts(time.perf_counter() - started))
        else:
            seconds = walltimes[-1] - walltimes[-2]
            line = {"seconds": seconds, "env_steps": env_steps, **serving.memory()}
            serving.say(channel, line)
        if not serving.wait_for_run():
            sys.exit()

    train(pendulum(), progress_fn=progress, **settings)


if __name__ == "__main__":
    main()
