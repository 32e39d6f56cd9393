"""The training of a run: updates, evaluations, checkpoints, and stops on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax

from jaxdrl.algorithms.training import Hook, run_updates
from jaxdrl.config.experiment import Experiment
from jaxdrl.core.keys import make_key
from jaxdrl.core.types import TrainState
from jaxdrl.evaluation.episodes import Evaluation, best_of
from jaxdrl.runs.assemble import Setup
from jaxdrl.runs.checkpoint_manager import Saver, copy
from jaxdrl.runs.metrics_log import MetricsLog, episode_figures, split
from jaxdrl.runs.profiling.tracing import Tracer
from jaxdrl.runs.progress import ProgressReport
from jaxdrl.runs.session import Session
from jaxdrl.runs.stopping import BadNumberWatch, NonFiniteError

EVALUATION_STREAM = 1
"""Folded into the key of the seed, so that evaluations share no numbers with training."""


def evaluation_key(experiment: Experiment, update: int) -> jax.Array:
    """The key of the evaluation after `update`."""
    key = jax.random.fold_in(make_key(experiment.seed), EVALUATION_STREAM)
    return jax.random.fold_in(key, update)


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """The figures of an evaluation as the files have them."""
    names = ("num_episodes", "mean_return", "ci95_low", "ci95_high", "mean_length", "num_cut")
    found = {name: getattr(evaluation, name) for name in names}
    if evaluation.members:
        returns = [member.mean_return for member in evaluation.members]
        found |= {"best_member": best_of(returns), "member_returns": returns}
        found["member_ci95"] = [[one.ci95_low, one.ci95_high] for one in evaluation.members]
    return found


class TrainingLoop:
    """Takes a run from a state to its end, or to the signal that stops it.

    Attributes:
      done: updates done.
      is_cut: whether `on_update` has ended the run before its length.
      seconds: time spent in updates, over all processes that worked on the run.
    """

    def __init__(
        self,
        setup: Setup,
        log: MetricsLog,
        saver: Saver,
        session: Session,
        progress: ProgressReport,
        tracer: Tracer | None = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.setup, self.log, self.saver = setup, log, saver
        self.session, self.progress, self.tracer, self.hooks = session, progress, tracer, hooks
        sweep = setup.experiment.sweep
        is_wave = sweep is not None and sweep.wave is not None  # the others may do well
        self.watch = BadNumberWatch(None if is_wave else setup.experiment.max_skipped_updates)
        self.done = 0
        self.is_cut = False
        self.error: BaseException | None = None  # of `on_update`
        self.saved = 0  # the last update that was handed over; the first state needs no saving
        self.seconds, self.resumed_at = 0.0, 0.0
        self.snapshot: tuple[int, TrainState] | None = None

    def run(
        self, state: TrainState, step: Any, manifest: dict[str, Any] | None
    ) -> tuple[TrainState, Any]:
        """`(state, last evaluation)`, the evaluation None where a signal came first.

        What `on_update` raises is raised once the state is saved.

        Args:
          state: donated.
          step: the compiled step.
          manifest: of the checkpoint that `state` is from, None at the start of a run.
        """
        evaluation: Any = None
        if manifest is not None:
            self._take_up(manifest)
            evaluation = manifest["evaluation"]
        while not self._is_interrupted():
            if self._is_at_end() and self.watch.num_bad > 0:
                self.log.flush()
                raise self.watch.error()  # such a policy is no result of a run
            if self._is_evaluated(self.done) and evaluation is None:
                evaluation = self._evaluate_and_save(state)
                continue
            if self._is_at_end():
                break
            state, evaluation = self._advance(state, step), None
        if self.saved != self.done and self.watch.num_bad == 0:
            self._save(self.done, copy(state), evaluation)
        self.log.flush(is_final=not self._is_interrupted())
        self.saver.wait()
        if self.error is not None:
            raise self.error
        if self._is_at_end() and isinstance(evaluation, dict):  # of an earlier process
            evaluation = self._evaluate(state)
        return state, evaluation if self._is_at_end() else None

    def _is_interrupted(self) -> bool:
        return self.session.signals.name is not None or self.error is not None

    def _is_at_end(self) -> bool:
        return self.is_cut or self.done == self.setup.experiment.num_updates

    def _take_up(self, manifest: dict[str, Any]) -> None:
        self.done = self.saved = manifest["update"]
        self.seconds = manifest["progress"]["train_seconds"]
        self.log.resume(manifest["progress"]["log"])

    def _next_evaluation(self, update: int) -> int:
        """The first update after `update` that an evaluation belongs after."""
        experiment = self.setup.experiment
        every = experiment.evaluate_every or experiment.num_updates
        return min((update // every + 1) * every, experiment.num_updates)

    def _is_evaluated(self, update: int) -> bool:
        """Whether an evaluation belongs after `update`."""
        is_cut_here = self.is_cut and update == self.done
        return is_cut_here or (update > 0 and self._next_evaluation(update - 1) == update)

    def _advance(self, state: TrainState, step: Any) -> TrainState:
        """Updates up to the next evaluation or signal."""
        self.log.restart_clock()
        self.resumed_at = time.perf_counter()
        last = self._next_evaluation(self.done)
        if self.tracer is not None:
            self._leave_out(self.tracer.begin(self.done, state, last))
        try:
            state = run_updates(
                step,
                state,
                num_updates=last - self.done,
                on_update=[
                    *self.hooks,
                    self.log.add,
                    self.watch,
                    self._hand_over,
                    self._show,
                    self._tell,
                ],
                on_state=self._look,
            )
        except NonFiniteError:
            self.log.flush()
            raise
        finally:
            if self.tracer is not None:
                self.tracer.close()
        self.seconds += time.perf_counter() - self.resumed_at
        self.done = int(jax.device_get(state.learner.num_updates).max())
        return state

    def _look(self, update: int, state: TrainState) -> bool:
        """Copies a state that is to be saved, before it is donated; true stops the loop."""
        if not self._is_evaluated(update) and self.saver.is_due(update):
            self.snapshot = update, copy(state)
        if self.tracer is not None:
            self._leave_out(self.tracer.look(update, state, self._next_evaluation(update - 1)))
        return self._is_interrupted() or self.is_cut

    def _leave_out(self, seconds: float) -> None:
        """Counts time to no update."""
        self.resumed_at += seconds
        self.log.leave_out(seconds)

    def _hand_over(self, update: int, metrics: dict[str, Any]) -> None:
        """Saves the copy once the metrics of its update are there, unless they are bad."""
        if self.snapshot is None or self.snapshot[0] != update:
            return
        if self.watch.num_bad == 0:
            seconds = time.perf_counter() - self.resumed_at
            self._save(update, self.snapshot[1], None, seconds)
        self.snapshot = None

    def _show(self, update: int, metrics: dict[str, Any]) -> None:
        if self.log.latest:
            self.progress.show(self.log.latest)

    def _tell(self, update: int, metrics: dict[str, Any]) -> None:
        """Calls `on_update`, and notes that it ends the run, or how it failed."""
        on_update = self.session.on_update
        if on_update is None or self.error is not None:
            return
        sums, others = split(metrics)
        env_steps = self.setup.experiment.algorithm.env_steps_per_update * update
        try:
            wants_end = on_update(
                update, {"env_steps": env_steps, **episode_figures(sums), **others}
            )
            self.is_cut = self.is_cut or bool(wants_end)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit() too ends the run with its state saved
            self.error = error

    def _evaluate_and_save(self, state: TrainState) -> Evaluation:
        evaluation = self._evaluate(state)
        self.log.annotate({f"evaluation_{k}": v for k, v in figures(evaluation).items()})
        self.log.flush()  # before the checkpoint, or a resumed run would log the line again
        per_update = self.setup.experiment.algorithm.env_steps_per_update
        self.progress.show_evaluation(self.done * per_update, figures(evaluation))
        best = self.saver.is_best(evaluation.mean_return)
        if self.watch.num_bad == 0 and (self._is_at_end() or best or self.saver.is_due(self.done)):
            self._save(self.done, copy(state), evaluation)
        if self.done % self.setup.experiment.log_every and self.log.latest:
            self.progress.show(self.log.latest)
        return evaluation

    def _evaluate(self, state: TrainState) -> Evaluation:
        return self.setup.evaluate(state, evaluation_key(self.setup.experiment, self.done))

    def _save(
        self, update: int, snapshot: TrainState, evaluation: Any, running_seconds: float = 0.0
    ) -> None:
        if isinstance(evaluation, Evaluation):
            evaluation = figures(evaluation)
        seconds = self.seconds + running_seconds
        progress = {"train_seconds": seconds, "log": self.log.snapshot()}
        self.saver.save(update, snapshot, progress, evaluation)
        self.saved = update
