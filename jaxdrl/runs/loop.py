"""The loop of a run: updates, evaluations, checkpoints, and what stops it on the way."""

from __future__ import annotations

import signal
from typing import Any

from jaxdrl.actors.watched import InterruptedWorkError
from jaxdrl.algorithms.training import Hook, NoStepError, num_updates_of, run_updates
from jaxdrl.core.types import TrainState
from jaxdrl.distributed.peers import PEER_FAILED
from jaxdrl.errors import ActorError
from jaxdrl.evaluation.episodes import Evaluation
from jaxdrl.runs.actors import evaluate_supervised
from jaxdrl.runs.agenda import Agenda
from jaxdrl.runs.assemble import Setup, evaluation_key
from jaxdrl.runs.metrics_log import episode_figures, evaluation_figures, split
from jaxdrl.runs.pace import Pace
from jaxdrl.runs.recorder import Recorder
from jaxdrl.runs.session import Session
from jaxdrl.runs.stopping import NonFiniteError, NonFiniteWatch, RunInterruptedError


class TrainingLoop:
    """Trains a run from a state to its end, or until something stops it.

    Attributes:
      done: updates done.
      agenda: when it saves, and whether it ends before its length.
    """

    def __init__(self, setup: Setup, recorder: Recorder, session: Session) -> None:
        self.setup, self.recorder, self.session = setup, recorder, session
        self.log, self.saver, self.tracer = recorder.log, recorder.saver, recorder.tracer
        sweep = setup.experiment.sweep
        is_wave = sweep is not None and sweep.wave is not None  # the others may do well
        self.watch = NonFiniteWatch(None if is_wave else setup.experiment.max_skipped_updates)
        self.done = setup.start.update
        self.saved = self.done  # the last update that was handed over; the first needs no saving
        self.hosts = session.hosts
        self.wants_cut = False  # `on_update` wants the run to end
        self.error: BaseException | None = None  # of `on_update`, or of the actors
        self.agenda = Agenda(
            self.hosts, self._interrupted_by, lambda: self.wants_cut, self.saver.is_due
        )
        self.pace = Pace(self.hosts.status, recorder.memory)
        self.snapshot: tuple[int, TrainState] | None = None

    def run(self, state: TrainState, step: Any) -> tuple[TrainState, Evaluation]:
        """`(last state, last evaluation)` of a run that comes to its end.

        Args:
          state: that the run starts or resumes with; donated.
          step: the compiled step.

        Raises:
          RunInterruptedError: where a signal came first, once the state is saved.
          NonFiniteError: where no finite gradient was left to learn from.
          BaseException: what `on_update` raised, or the actors failed of, once the state is saved.
        """
        evaluation: Any = None
        if (manifest := self.setup.start.manifest) is not None:
            self.log.resume(manifest["progress"]["log"])
            evaluation = manifest["evaluation"]
        self.first_hooks: list[Hook] = []
        if not self.hosts.is_alone:
            step, self.first_hooks = self.pace.timed(step), [self.pace.seen]
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
            self._save(self.done, self.saver.take(self.done, state), evaluation)
        self.log.flush(is_final=not self.agenda.is_interrupted(self.done))
        self.saver.wait()
        if self.error is not None:
            raise self.error
        if evaluation is None or not self._is_at_end():
            raise self._interruption()
        if isinstance(evaluation, dict):  # of an earlier process
            evaluation = self.setup.evaluate(
                state, evaluation_key(self.setup.experiment, self.done)
            )
        return state, evaluation

    def _interrupted_by(self) -> str | None:
        """What interrupts the run: a signal, or an error of `on_update`."""
        error = self.error
        return self.session.signals.name if error is None else f"{type(error).__name__}: {error}"

    def _is_interrupted(self) -> bool:
        """Whether the run is interrupted here, where all its processes are."""
        self.agenda.settle(self.done)
        return self.agenda.is_interrupted(self.done)

    def _interruption(self) -> RunInterruptedError:
        by, num_updates = self.agenda.decided.end_by, self.setup.experiment.num_updates
        assert by is not None
        words = f"{by}: stopped after update {self.done} of {num_updates}"
        is_signal = by in signal.Signals.__members__  # else an error of process 0
        return RunInterruptedError(words, 128 + signal.Signals[by] if is_signal else PEER_FAILED)

    def _is_at_end(self) -> bool:
        is_cut = self.agenda.is_cut(self.done)
        return is_cut or self.done == self.setup.experiment.num_updates

    def _next_evaluation(self, update: int) -> int:
        """The first update after `update` that is followed by an evaluation."""
        experiment = self.setup.experiment
        every = experiment.evaluate_every or experiment.num_updates
        return min((update // every + 1) * every, experiment.num_updates)

    def _is_evaluated(self, update: int) -> bool:
        """Whether `update` is followed by an evaluation."""
        is_cut_here = self.agenda.is_cut(update) and update == self.done
        return is_cut_here or (update > 0 and self._next_evaluation(update - 1) == update)

    def _advance(self, state: TrainState, step: Any) -> TrainState:
        """Does updates until the next evaluation or signal."""
        last = self._next_evaluation(self.done)
        self.pace.begin(self.done)
        hooks: list[Hook] = [*self.first_hooks, *self.recorder.hooks, self.log.add, self.watch]
        self.agenda.begin(self.done)
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
                    on_no_step=self._note_no_step,
                )
        except NonFiniteError:
            self.log.flush()
            raise
        finally:
            if self.tracer is not None:
                self.tracer.close()
        self.done = num_updates_of(state)
        return state

    def _note_no_step(self, error: NoStepError) -> None:
        """Ends the run where its actors have failed; else a signal does."""
        self.error = self.error or error.__cause__

    def _look(self, update: int, state: TrainState) -> bool:
        """Takes what has to be saved of a state before it is donated; true stops the loop."""
        self.saver.check()
        self.agenda.look(update)
        if self.agenda.is_saved(update) and not self._is_evaluated(update):
            self.snapshot = update, self.saver.take(update, state)
        if self.tracer is not None:
            self.tracer.look(update, state, self._next_evaluation(update - 1))
        return self.agenda.is_interrupted(update) or self.agenda.is_cut(update)

    def _hand_over(self, update: int, metrics: dict[str, Any]) -> None:
        """Saves the copy once the metrics of its update are there, if gradients were finite."""
        if self.snapshot is None or self.snapshot[0] != update:
            return
        if self.watch.num_skipped == 0:
            self._save(update, self.snapshot[1], None)
        else:
            self.saver.drop()
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
            self.wants_cut = self.wants_cut or bool(wants_end)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit() too ends the run only once its state is saved
            self.error = error

    def _evaluate_and_save(self, state: TrainState) -> Evaluation | None:
        """The evaluation of a state, saved if that is due; None where a signal came first."""
        env_steps = self.done * self.setup.experiment.algorithm.env_steps_per_update
        self.recorder.progress.begin_evaluation(env_steps)
        try:
            evaluation = self._evaluate(state)
        except InterruptedWorkError:
            return None
        except ActorError as error:  # once the state is saved
            self.error = self.error or error
            return None
        self.log.annotate({f"evaluation_{k}": v for k, v in evaluation_figures(evaluation).items()})
        self.log.flush()  # before the checkpoint, or a resumed run would write the line again
        self.recorder.progress.show_evaluation(env_steps, evaluation_figures(evaluation))
        if self.hosts.first(f"save-{self.done}", lambda: self._wants_save(evaluation)):
            self._save(self.done, self.saver.take(self.done, state), evaluation)
        if self.done % self.setup.experiment.log_every and self.log.latest:
            self.recorder.progress.show(self.log.latest)
        return evaluation

    def _wants_save(self, evaluation: Evaluation) -> bool:
        """Whether an evaluated state is saved."""
        best = self.saver.is_best(evaluation.mean_return)
        is_wanted = self._is_at_end() or best or self.saver.is_due(self.done)
        return self.watch.num_skipped == 0 and is_wanted

    def _evaluate(self, state: TrainState) -> Evaluation:
        self.hosts.status.phase = "evaluating"
        key = evaluation_key(self.setup.experiment, self.done)
        return evaluate_supervised(self.setup, state, key, self.session)

    def _save(self, update: int, snapshot: TrainState, evaluation: Any) -> None:
        if isinstance(evaluation, Evaluation):
            evaluation = evaluation_figures(evaluation)
        seconds = self.recorder.stopwatch.seconds
        progress = {"train_seconds": seconds, "log": self.log.snapshot()}
        self.saver.save(update, snapshot, progress, evaluation)
        self.saved = update
