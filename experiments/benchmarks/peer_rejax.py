"""A process that trains by rejax: `python -m benchmarks.peer_rejax JOB`, in its own environment.

What is timed is its own training step, `train_iteration`, scanned over the updates of a run without
its evaluations. Environment steps, epochs and minibatches are compared with the job after each run.

Where its work differs from ours, by its version 0.1.3, in every algorithm:

- gradients are clipped element by element, not by their global norm;
- an episode cut by a time limit counts as ended, so that no value of a last observation is needed;
- every environment is reset at every step, by gymnax;
- no metrics are computed, and steps that are not finite are not skipped.

In PPO:

- actor and critic are updated one after the other, each with an optimiser, and two passes over the
  minibatch's samples, in place of one loss and one optimiser;
- the value loss is clipped;
- observations and rewards are normalised by statistics that are updated at every step.

In PQN:

- action values of the next observation are computed at every step, by a second pass; ours are those
  of the next step, and only an episode that was cut needs a pass of its own;
- it has Adam, where ours has rectified Adam.

In DQN, SAC and TD3:

- a minibatch is drawn without replacement, by a sort of the whole buffer; ours with replacement,
  an equal part from each shard;
- the buffer has each observation twice, and a minibatch is drawn by the gradient step that takes
  it, not all those of an update at once;
- target networks follow once in an update, not after every gradient step;
- DQN and TD3 act uniformly at random until they learn; ours act as later.

In SAC and TD3 there are three or two optimisers with a pass each, one after the other; ours have
one loss and one gradient of all parameters. TD3's actor learns by both critics.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import cases, serving
from benchmarks.cases import Case, Job, from_json

POLICY_DELAY = 2
"""Updates of TD3's critics in one of its iterations, which ends with one of the actor."""
NEVER = 10**9
"""Environment steps that training is planned for."""


def make(job: Job) -> Any:
    """The algorithm with the job's work."""
    from rejax import get_algo  # type: ignore[import-not-found]

    case = job.case
    if case.algorithm != "ppo":
        made = get_algo(case.algorithm).create(**settings(case))
        names = [name for name in ("agent", "actor", "critic") if hasattr(made, name)]
        sizes = {"hidden_layer_sizes": case.hidden_sizes}  # which most algorithms do not take
        return made.replace(**{name: getattr(made, name).clone(**sizes) for name in names})
    return get_algo("ppo").create(
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


def settings(case: Case) -> dict[str, Any]:
    """Arguments of the algorithms other than PPO."""
    found = {
        "env": case.env,
        "num_envs": case.num_envs,
        "total_timesteps": NEVER,
        "learning_rate": cases.LEARNING_RATE,
        "gamma": cases.GAMMA,
        "max_grad_norm": cases.MAX_GRAD_NORM,
    }
    if case.buffer_size:
        found["num_epochs"] = case.num_gradient_steps  # after a step of every environment
        found |= {name: getattr(case, name) for name in ("buffer_size", "batch_size")}
        found["fill_buffer"] = case.learning_starts
    else:
        found |= {"num_steps": case.num_steps, "num_epochs": case.num_epochs}
        found["num_minibatches"] = case.num_minibatches
    relu = {"activation": "relu"}
    if case.algorithm == "td3":  # it takes these dictionaries apart
        found |= {"actor_kwargs": dict(relu), "critic_kwargs": dict(relu)}
        found["policy_delay"] = POLICY_DELAY
    elif case.algorithm != "pqn":  # which has it anyway, after LayerNorm
        found["agent_kwargs"] = relu
    return found


def counts(state: Any) -> dict[str, int]:
    """How many environment steps there were, and how many steps of each optimiser."""
    names = ("actor_ts", "critic_ts", "q_ts")
    found = {name: getattr(state, name).step for name in names if hasattr(state, name)}
    return {name: int(x.max()) for name, x in {"environment": state.global_step, **found}.items()}


def check(job: Job, before: dict[str, int], after: dict[str, int]) -> None:
    """Refuses to go on unless a run did the job's work."""
    done = {name: after[name] - count for name, count in before.items()}
    expected = dict.fromkeys(done, job.updates * job.case.gradient_steps)
    expected["environment"] = job.updates * job.case.env_steps
    if job.case.algorithm == "td3":
        expected["actor_ts"] //= POLICY_DELAY
    if done != expected:
        sys.exit(f"rejax did {done} steps; {expected} were its work")


def trainer(job: Job) -> tuple[Callable[[], Any], dict[str, Any]]:
    """`(run, what to say when ready)`."""
    algorithm = make(job)
    iterate, init, key = algorithm.train_iteration, algorithm.init_state, jax.random.key(0)
    if job.members:  # as its README has it
        iterate, init = jax.vmap(iterate), jax.vmap(init)
        key = jax.random.split(key, job.members)

    length = job.updates // (POLICY_DELAY if job.case.algorithm == "td3" else 1)

    def updates(state: Any) -> Any:
        return jax.lax.scan(lambda state, _: (iterate(state), None), state, length=length)[0]

    # Its first state has weak types, and the scan gives strong ones: compiled for the latter.
    state = jax.jit(init)(key)
    shapes = jax.eval_shape(updates, state)
    state = jax.tree.map(lambda x, like: jax.numpy.asarray(x, like.dtype), state, shapes)
    started = time.perf_counter()
    step = jax.jit(updates, donate_argnums=0).lower(state).compile()
    ready = serving.facts(time.perf_counter() - started)
    if job.case.buffer_size:  # which has to be filled before it learns
        state = step(state)
    before = counts(state)
    states = [step(state)]
    check(job, before, counts(states[0]))

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
