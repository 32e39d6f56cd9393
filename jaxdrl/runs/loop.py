"""The loop of a run: updates, evaluations, checkpoints, and what stops it on the way."""

from __future__ import annotations

import signal
from typing import Any

import jax

from jaxdrl.algorithms.training import Hook, run_updates
from jaxdrl.core.types import TrainState
from jaxdrl.evaluation.episodes import Evaluation
from jaxdrl.runs.assemble import Setup, evaluation_key
from jaxdrl.runs.checkpoint_manager import copy
from jaxdrl.runs.metrics_log import episode_figures, evaluation_figures, split
from jaxdrl.runs.recorder import Recorder
from jaxdrl.runs.session import Session
from jaxdrl.runs.stopping import NonFiniteError, NonFiniteWatch, RunInterruptedError


class TrainingLoop:
    """Trains a run from a state to its end, or until something stops it.

    Attributes:
      done: updates done.
      is_cut: whether `on_update` has ended the run before its length.
    """

    def __init__(self, setup: Setup, recorder: Recorder, session: Session) -> None:
        self.setup, self.recorder, self.session = setup, recorder, session
        self.log, self.saver, self.tracer = recorder.log, recorder.saver, recorder.tracer
        sweep = setup.experiment.sweep
        is_wave = sweep is not None and sweep.wave is not None  # the others may do well
        self.watch = NonFiniteWatch(None if is_wave else setup.experiment.max_skipped_updates)
        self.done = setup.start.update
        self.saved = self.done  # the last update that was handed over; the first needs no saving
        self.is_cut = False
        self.error: BaseException | None = None  # of `on_update`
        self.snapshot: tuple[int, TrainState] | None = None

    def run(self, state: TrainState, step: Any) -> tuple[TrainState, Evaluation]:
        """`(last state, last evaluation)` of a run that comes to its end.

        Args:
          state: that the run starts or resumes with; donated.
          step: the compiled step.

        Raises:
          RunInterruptedError: where a signal came first, once the state is saved.
          NonFiniteError: where no finite gradient was left to learn from.
          BaseException: what `on_update` raised, once the state is saved.
        """
        evaluation: Any = None
        if (manifest := self.setup.start.manifest) is not None:
            self.log.resume(manifest["progress"]["log"])
            evaluation = manifest["evaluation"]
        while not self._is_interrupted():
            if self._is_at_end() and self.watch.num_skipped > 0:
                self.log.flush()
                raise self.watch.error()  # such a policy is not the result of a run
            if self._is_evaluated(self.done) and evaluation is None:
                evaluation = self._evaluate_and_save(state)
                continue
            if self._is_at_end():
                break
            state, evaluation = self._advance(state, step), None
        if self.saved != self.done and self.watch.num_skipped == 0:
            self._save(self.done, copy(state), evaluation)
        self.log.flush(is_final=not self._is_interrupted())
        self.saver.wait()
        if self.error is not None:
            raise self.error
        if evaluation is None or not self._is_at_end():
            raise self._interruption()
        if isinstance(evaluation, dict):  # of an earlier process
            evaluation = self._evaluate(state)
        return state, evaluation

    def _is_interrupted(self) -> bool:
        return self.session.signals.name is not None or self.error is not None

    def _interruption(self) -> RunInterruptedError:
        name, num_updates = self.session.signals.name, self.setup.experiment.num_updates
        assert name is not None
        words = f"{name}: stopped after update {self.done} of {num_updates}"
        return RunInterruptedError(words, 128 + signal.Signals[name])

    def _is_at_end(self) -> bool:
        return self.is_cut or self.done == self.setup.experiment.num_updates

    def _next_evaluation(self, update: int) -> int:
        """The first update after `update` that is followed by an evaluation."""
        experiment = self.setup.experiment
        every = experiment.evaluate_every or experiment.num_updates
        return min((update // every + 1) * every, experiment.num_updates)

    def _is_evaluated(self, update: int) -> bool:
        """Whether `update` is followed by an evaluation."""
        is_cut_here = self.is_cut and update == self.done
        return is_cut_here or (update > 0 and self._next_evaluation(update - 1) == update)

    def _advance(self, state: TrainState, step: Any) -> TrainState:
        """Does updates until the next evaluation or signal."""
        last = self._next_evaluation(self.done)
        hooks: list[Hook] = [*self.recorder.hooks, self.log.add, self.watch]
        try:
            with self.recorder.stopwatch.running():
                if self.tracer is not None:
                    self.tracer.begin(self.done, state, last)
                state = run_updates(
                    step,
                    state,
                    num_updates=last - self.done,
                    on_update=[*hooks, self._hand_over, self._show, self._tell],
                    on_state=self._look,
                )
        except NonFiniteError:
            self.log.flush()
            raise
        finally:
            if self.tracer is not None:
                self.tracer.close()
        self.done = int(jax.device_get(state.learner.num_updates).max())
        return state

    def _look(self, update: int, state: TrainState) -> bool:
        """Copies a state that has to be saved before it is donated; true stops the loop."""
        if not self._is_evaluated(update) and self.saver.is_due(update):
            self.snapshot = update, copy(state)
        if self.tracer is not None:
            self.tracer.look(update, state, self._next_evaluation(update - 1))
        return self._is_interrupted() or self.is_cut

    def _hand_over(self, update: int, metrics: dict[str, Any]) -> None:
        """Saves the copy once the metrics of its update are there, if gradients were finite."""
        if self.snapshot is None or self.snapshot[0] != update:
            return
        if self.watch.num_skipped == 0:
            self._save(update, self.snapshot[1], None)
        self.snapshot = None

    def _show(self, update: int, metrics: dict[str, Any]) -> None:
        if self.log.latest:
            self.recorder.progress.show(self.log.latest)

    def _tell(self, update: int, metrics: dict[str, Any]) -> None:
        """Calls `on_update`, and notes whether it ends the run or fails."""
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
        except BaseException as error:  # sys.exit() too ends the run only once its state is saved
            self.error = error

    def _evaluate_and_save(self, state: TrainState) -> Evaluation:
        evaluation = self._evaluate(state)
        self.log.annotate({f"evaluation_{k}": v for k, v in evaluation_figures(evaluation).items()})
        self.log.flush()  # before the checkpoint, or a resumed run would write the line again
        per_update = self.setup.experiment.algorithm.env_steps_per_update
        self.recorder.progress.show_evaluation(
            self.done * per_update, evaluation_figures(evaluation)
        )
        best = self.saver.is_best(evaluation.mean_return)
        if self.watch.num_skipped == 0 and (
            self._is_at_end() or best or self.saver.is_due(self.done)
        ):
            self._save(self.done, copy(state), evaluation)
        if self.done % self.setup.experiment.log_every and self.log.latest:
            self.recorder.progress.show(self.log.latest)
        return evaluation

    def _evaluate(self, state: TrainState) -> Evaluation:
        return self.setup.evaluate(state, evaluation_key(self.setup.experiment, self.done))

    def _save(self, update: int, snapshot: TrainState, evaluation: Any) -> None:
        if isinstance(evaluation, Evaluation):
            evaluation = evaluation_figures(evaluation)
        seconds = self.recorder.stopwatch.seconds
        progress = {"train_seconds": seconds, "log": self.log.snapshot()}
        self.saver.save(update, snapshot, progress, evaluation)
        self.saved = update
