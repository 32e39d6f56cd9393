"""Signals are noted, and numbers that stay bad stop a run with the first of them named."""

import contextlib
import os
import signal
import threading

import pytest

from jaxdrl.runs.stopping import NonFiniteError, NonFiniteWatch, Signals


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_is_noted_while_it_is_held_back_and_interrupts_elsewhere(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with Signals() as signals:
        assert signals.name is None
        with signals.held():
            send(name)
            assert signals.name == name
    with Signals() as signals:
        with pytest.raises(KeyboardInterrupt):
            send(name)
        assert signals.name == name
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("second", ["SIGTERM", "SIGHUP"])
def test_a_second_signal_of_a_scheduler_changes_nothing(second):
    with Signals() as signals:
        with signals.held():
            for name in ("SIGTERM", second, second):
                send(name)
        send(second)  # while what comes after is put away
        assert signals.name == "SIGTERM"
        assert not signals.is_impatient


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_second_interrupt_interrupts_at_once(first):
    with Signals() as signals, signals.held():
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")
        assert signals.name == first
        assert signals.is_impatient


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_what_the_process_ignores_stays_ignored(name):
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)  # as nohup does
    try:
        with Signals() as signals:
            send(name)
            assert signals.name is None
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_an_interrupt_that_somebody_swallowed_is_not_forgotten():
    with Signals() as signals:
        with contextlib.suppress(KeyboardInterrupt):
            send("SIGTERM")
        with pytest.raises(KeyboardInterrupt), signals.held():
            pytest.fail("trains")


def test_another_thread_may_train_too():
    names = []

    def body():
        with Signals() as signals:
            names.append(signals.name)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert names == [None]


def metrics(skipped=0, grad_norm=1.0, observations=0, rewards=0, params=0):
    return {
        "skipped_steps": skipped,
        "nonfinite_params": params,
        "grad_norm": grad_norm,
        "nonfinite_observations": observations,
        "nonfinite_rewards": rewards,
    }


def test_the_watch_stops_after_as_many_bad_updates_in_a_row_as_it_has_patience():
    watch = NonFiniteWatch(3)
    bad, half, good = metrics(4, 0.0, rewards=1), metrics(2), metrics()
    for update, seen in enumerate([bad, bad, good, bad, bad, half, bad, bad], 1):
        watch(update, seen)
    with pytest.raises(NonFiniteError) as caught:
        watch(9, bad)
    assert str(caught.value) == (
        "stopped: no gradient step of the last 3 updates was finite. "
        "First went wrong: rewards (NaN, infinite or beyond 1e15), since update 4 "
        "(then gradients since update 4)"
    )


def test_the_watch_names_what_went_wrong_first():
    watch = NonFiniteWatch(2)
    watch(1, metrics(1))
    watch(2, metrics(4, 0.0, observations=3))
    with pytest.raises(NonFiniteError, match=r"First went wrong: gradients, since update 1 "):
        watch(3, metrics(4, 0.0, observations=3, rewards=1))


def test_a_number_that_was_too_large_is_blamed_for_what_comes_of_it_an_update_later():
    watch = NonFiniteWatch(1)
    for update, seen in enumerate([metrics(rewards=1), metrics(), metrics(observations=2)], 1):
        watch(update, seen)
    with pytest.raises(NonFiniteError) as caught:
        watch(4, metrics(4, 0.0))
    assert str(caught.value) == (
        "stopped: no gradient step of the last update was finite. First went wrong: observations "
        "(NaN, infinite or beyond 1e15), since update 3 (then gradients since update 4)"
    )


def test_an_optimizer_that_makes_bad_numbers_of_good_gradients_is_named():
    watch = NonFiniteWatch(2)
    watch(1, metrics(4, 0.0, params=4))
    with pytest.raises(NonFiniteError) as caught:
        watch(2, metrics(4, 0.0, params=4))
    assert str(caught.value).endswith(
        "First went wrong: parameters or optimiser state, of finite gradients, since update 1"
    )


def test_a_watch_without_patience_lets_a_wave_of_diverged_members_end():
    watch = NonFiniteWatch(None)
    bad = {"nonfinite_observations": 0, "nonfinite_rewards": 0, "skipped_steps": 4}
    for update in range(1, 9):
        watch(update, {**bad, "grad_norm": 0.0})
    assert watch.num_skipped == 0  # or its last state would not be saved
