"""Help of every verb on a terminal of 80 columns, versions, and completion in a shell."""

import contextlib
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest

import jaxdrl
from jaxdrl import launch
from jaxdrl.cli import help as shown
from jaxdrl.cli import main
from jaxdrl.cli.launch_processes import VERBS

ROOT = Path(__file__).parents[2]
COMMANDS = [
    [],
    *([verb] for verb in (*VERBS, "launch")),
    ["train", "MemoryChain-bsuite"],
    *(["train", "--algorithm", name] for name in ("impala", "pqn", "dqn", "sac", "td3")),
]


def printed(args, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as caught:
        main.main([*args, "--help"])
    assert caught.value.code == 0
    return output.getvalue()


def words(text):
    return Counter(re.sub("[─│╭╮╰╯]", " ", text).split())


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_no_line_of_help_is_wider_than_the_terminal_and_no_word_is_cut(args, monkeypatch):
    at_80 = printed(args, 80, monkeypatch)
    assert max(map(len, at_80.splitlines())) <= 80
    assert words(at_80) == words(printed(args, 129, monkeypatch))  # 130 would be two columns


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_no_line_of_help_ends_where_the_source_has_a_line_break(args, monkeypatch):
    """A line ends where the next word did not fit, or with the sentence."""
    lines = [line[2:-2] for line in printed(args, 80, monkeypatch).splitlines() if "│" in line]
    for line, following in itertools.pairwise(lines):
        is_text = line.startswith("    ") and following.startswith("    ")
        is_end = line.rstrip().endswith((")", ".", ":")) or not following.strip()
        if is_text and not is_end and len(following) - len(following.lstrip()) > 4:
            word = following.split()[0]
            assert len(line.rstrip()) + 1 + len(word) > 76, f"{line}\n{following}"


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_help_says_what_kind_of_value_is_meant(args, monkeypatch):
    text = printed(args, 80, monkeypatch)
    assert "{None}" not in text
    assert "(default: )" not in text
    assert not re.search(r"\bSTR\b", text)


def test_the_list_of_verbs_has_one_sentence_for_each(monkeypatch):
    text = printed([], 80, monkeypatch)
    assert text.startswith("usage: jaxdrl [-h] [--version] VERB ...\n")
    for verb in (*VERBS, "launch"):
        (first,) = re.findall(rf"• {verb} +(\w+)", text)
        assert first[0].isupper()
    assert text.count("Flags override") == 0
    assert "Flags override" in printed(["train"], 80, monkeypatch)


def test_a_style_takes_no_room_and_words_stay_whole():
    usage = "\x1b[1musage:\x1b[0m jaxdrl\x1b[0m verb\x1b[m [-h] [--first INT] [--second-flag INT]"
    assert shown.fit(f"{usage}\nshort\n", 40) == (
        "usage: jaxdrl verb [-h] [--first INT]\n    [--second-flag INT]\nshort\n"
    )
    assert shown.fit(f"{usage}\n", 57) == f"{usage}\n"  # it is seen to have 57 characters
    verbs = "\x1b[1musage:\x1b[0m jaxdrl [-h] {train,sweep}\n"
    assert shown.fit(verbs, 80) == "usage: jaxdrl [-h] [--version] VERB ...\n"


def test_help_that_nobody_can_see_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as caught:
        main.main(["--help"])
    assert caught.value.code == 0


@pytest.mark.parametrize(("text", "value"), [("best", "best"), ("7", 7), ("None", None)])
def test_an_optional_value_is_still_read(text, value, monkeypatch):
    received = []
    monkeypatch.setattr(launch, "resume", lambda *_, **how: received.append(how["checkpoint"]))
    main.main(["resume", "runs/first", "--checkpoint", text])
    assert received == [value]


def run_python(*args):
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *args]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_versions_come_without_importing_what_they_are_of():
    heavy = "{'jax', 'jaxlib', 'numpy', 'rich'} & set(sys.modules)"
    program = f"import sys; from jaxdrl.cli.main import main; main(['--version']); print({heavy})"
    first, second, imported = run_python("-c", program).splitlines()
    assert first == f"jaxdrl {jaxdrl.__version__}"
    python = ".".join(map(str, sys.version_info[:3]))
    assert second == f"jax {version('jax')}, jaxlib {version('jaxlib')}, Python {python}"
    assert imported == "set()"


def test_the_package_runs_as_a_module():
    assert run_python("-m", "jaxdrl", "--version").startswith(f"jaxdrl {jaxdrl.__version__}\n")


COMPLETED = """
source "$1"
COMP_WORDS=(jaxdrl "${@:2}"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
$(complete -p jaxdrl | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_verbs_and_flags(tmp_path, monkeypatch):
    script = tmp_path / "script"
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        main.main(["--tyro-print-completion", "bash"])
    script.write_text(output.getvalue())

    def completed(*typed):
        command = ["bash", "-c", COMPLETED, "bash", str(script), *typed]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert completed("tr") == ["train"]
    assert set(VERBS) <= set(completed(""))
    flags = completed("train", "CartPole-v1", "--num-")
    assert {"--num-envs", "--num-steps"} <= set(flags)
    assert all(flag.startswith("--num-") for flag in flags)  # no piece of an explanation
