"""A process that trains by rejax: `python -m benchmarks.peer_rejax JOB`, in its own environment.

What is timed is its own training step, `train_iteration`, scanned over the updates of a run without
its evaluations. Environment steps, epochs and minibatches are compared with the job after each run.

Where its work differs from ours, by its version 0.1.3:

- actor and critic are updated one after the other, each with an optimiser, and two passes over the
  minibatch's samples, in place of one loss and one optimiser;
- gradients are clipped element by element, not by their global norm;
- the value loss is clipped;
- an episode cut by a time limit counts as ended, so that no value of a last observation is needed;
- observations and rewards are normalised by statistics that are updated at every step;
- every environment is reset at every step, by gymnax;
- no metrics are computed, and steps that are not finite are not skipped.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import cases, serving
from benchmarks.cases import Job, from_json


def make(job: Job) -> Any:
    """The algorithm with the job's work."""
    from rejax import PPO  # type: ignore[import-not-found]

    case = job.case
    return PPO.create(
        env=case.env,
        num_envs=case.num_envs,
        num_steps=case.num_steps,
        num_epochs=case.num_epochs,
        num_minibatches=case.num_minibatches,
        total_timesteps=case.env_steps,
        agent_kwargs={"hidden_layer_sizes": case.hidden_sizes, "activation": "tanh"},
        normalize_observations=case.normalize,
        normalize_rewards=case.normalize,
        learning_rate=cases.LEARNING_RATE,
        gamma=cases.GAMMA,
        gae_lambda=cases.GAE_LAMBDA,
        clip_eps=cases.CLIP_EPSILON,
        vf_coef=cases.VALUE_COEF,
        ent_coef=cases.ENTROPY_COEF,
        max_grad_norm=cases.MAX_GRAD_NORM,
    )


def check(job: Job, state: Any, updates: int) -> None:
    """Refuses to go on unless so many updates did the job's work."""
    counts = (state.global_step, state.actor_ts.step, state.critic_ts.step)
    done = tuple(int(count.max()) for count in counts)
    gradient_steps = updates * job.case.gradient_steps
    expected = (updates * job.case.env_steps, gradient_steps, gradient_steps)
    if done != expected:
        sys.exit(f"rejax did {done} environment, actor and critic steps; {expected} were its work")


def trainer(job: Job) -> tuple[Callable[[], Any], dict[str, Any]]:
    """`(run, what to say when ready)`."""
    algorithm = make(job)
    iterate, init, key = algorithm.train_iteration, algorithm.init_state, jax.random.key(0)
    if job.members:  # as its README has it
        iterate, init = jax.vmap(iterate), jax.vmap(init)
        key = jax.random.split(key, job.members)

    def updates(state: Any) -> Any:
        return jax.lax.scan(lambda state, _: (iterate(state), None), state, length=job.updates)[0]

    # Its first state has weak types, and the scan gives strong ones: compiled for the latter.
    state = jax.jit(init)(key)
    shapes = jax.eval_shape(updates, state)
    state = jax.tree.map(lambda x, like: jax.numpy.asarray(x, like.dtype), state, shapes)
    started = time.perf_counter()
    step = jax.jit(updates, donate_argnums=0).lower(state).compile()
    ready = serving.facts(time.perf_counter() - started)
    states = [step(state)]
    check(job, states[0], job.updates)

    def run() -> Any:
        states.append(step(states.pop()))
        return states

    return run, ready


def main() -> None:
    """Does the job of the command line."""
    channel, job = serving.open_channel(), from_json(sys.argv[1])
    run, ready = trainer(job)
    serving.serve(channel, run, job.updates * job.env_steps, ready)


if __name__ == "__main__":
    main()
