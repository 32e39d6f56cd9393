"""A session says how a signal ended a run at once, and keeps quiet where it is told to."""

import os
import signal

import pytest

from jaxdrl.runs.session import open_session
from jaxdrl.runs.stopping import RunInterruptedError


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_before_the_training_ends_a_run_in_one_sentence(name, tmp_path):
    number = getattr(signal, name)
    with pytest.raises(RunInterruptedError) as caught, open_session(tmp_path, []):
        os.kill(os.getpid(), number)
        pytest.fail("went on")
    assert caught.value.exit_code == 128 + number
    words = f"{name}: stopped before training could start or continue. Nothing was written: "
    words += "start it again"
    assert str(caught.value) == words


def test_what_is_there_is_named_with_the_call_that_goes_on(tmp_path):
    run_dir = tmp_path / "my run"
    (run_dir / "checkpoints" / "00000007").mkdir(parents=True)
    (run_dir / "config.json").touch()
    for given, call in (
        ([], f"jaxdrl resume '{run_dir}'"),
        (["env"], f"jaxdrl.resume({str(run_dir)!r}, env=my_env) in Python"),
    ):
        with (
            pytest.raises(RunInterruptedError) as caught,
            open_session(run_dir, given) as session,
            session.signals.held(),
        ):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        assert caught.value.exit_code == 128 + signal.SIGTERM
        assert str(caught.value) == (
            "SIGTERM, and Ctrl-C after it: stopped at once, without another checkpoint. The last "
            f"checkpoint is that of update 7; resume with: {call}"
        )


def test_an_interrupt_that_is_no_signal_is_the_callers(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_session(tmp_path, []):
        raise KeyboardInterrupt


@pytest.mark.parametrize("quiet", [False, True])
def test_a_quiet_session_prints_nothing_but_warnings(quiet, tmp_path, capsys):
    with open_session(tmp_path, [], quiet=quiet) as session:
        session.console.print("said")
        with session.console.status("shown"):
            pass
        session.warn("odd")
    assert capsys.readouterr().out == ("" if quiet else "said\n") + "warning: odd\n"
