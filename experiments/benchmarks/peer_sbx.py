"""A process that trains by sbx: `python -m benchmarks.peer_sbx JOB`, in its own environment.

What is timed is `PPO.learn`, as its README has it, in the copies that `make_vec_env` makes: in one
process, which it says is fastest for cheap environments. It has no environments of EnvPool, so that
it trains those of Gymnasium in their place.

Where its work differs from ours, by its version 0.28.0:

- actor and critic are updated one after the other, each with an optimiser and a gradient clipped by
  its own norm;
- each minibatch is a call from Python, whose rows are gathered by NumPy;
- acting and learning take turns on one device.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import cases, serving
from benchmarks.cases import Job, from_json


def make(job: Job) -> Any:
    """The algorithm with the job's work."""
    import flax.linen as nn
    from sbx import PPO  # type: ignore[import-not-found]
    from stable_baselines3.common.env_util import make_vec_env  # type: ignore[import-not-found]
    from stable_baselines3.common.vec_env import VecNormalize  # type: ignore[import-not-found]

    case = job.case
    envs = make_vec_env(case.env.split("/")[-1], n_envs=case.num_envs, seed=0)
    if case.normalize:
        envs = VecNormalize(envs, gamma=cases.GAMMA)
    return PPO(
        "MlpPolicy",
        envs,
        n_steps=case.num_steps,
        n_epochs=case.num_epochs,
        batch_size=case.minibatch_size,
        learning_rate=cases.LEARNING_RATE,
        gamma=cases.GAMMA,
        gae_lambda=cases.GAE_LAMBDA,
        clip_range=cases.CLIP_EPSILON,
        ent_coef=cases.ENTROPY_COEF,
        vf_coef=cases.VALUE_COEF,
        max_grad_norm=cases.MAX_GRAD_NORM,
        policy_kwargs={
            "net_arch": list(case.hidden_sizes),
            "activation_fn": nn.tanh,
            "optimizer_kwargs": {"eps": cases.ADAM_EPSILON},
        },
        device="cpu",
    )


def check(job: Job, model: Any, updates: int) -> None:
    """Refuses to go on unless so many updates did the job's work."""
    steps = (model.policy.actor_state.step, model.policy.vf_state.step)
    done = (model.num_timesteps, *map(int, steps))
    gradient_steps = updates * job.case.gradient_steps
    expected = (updates * job.case.env_steps, gradient_steps, gradient_steps)
    if done != expected:
        sys.exit(f"sbx did {done} environment, actor and critic steps; {expected} were its work")


def trainer(job: Job) -> tuple[Callable[[], Any], dict[str, Any]]:
    """`(run, what to say when ready)`."""
    model = make(job)

    def run(updates: int = job.updates) -> None:
        model.learn(updates * job.env_steps, reset_num_timesteps=False)

    started = time.perf_counter()
    run(2)
    ready = serving.facts(time.perf_counter() - started)
    check(job, model, 2)
    return run, ready


def main() -> None:
    """Does the job of the command line."""
    channel, job = serving.open_channel(), from_json(sys.argv[1])
    run, ready = trainer(job)
    serving.serve(channel, run, job.updates * job.env_steps, ready)


if __name__ == "__main__":
    main()
