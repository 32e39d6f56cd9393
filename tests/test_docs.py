"""What the Markdown files and the docstrings say works as it stands.

The python blocks of a file run in the order of the file, in one process and one namespace, as a
reader would run them. Commands are parsed, not run.
"""

import contextlib
import doctest
import functools
import importlib
import inspect
import io
import json
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from types import SimpleNamespace

import jax
import pytest
import tyro

import jaxdrl
from jaxdrl import launch
from jaxdrl.analysis import evaluate_verb, export, learning_curves, render, watch
from jaxdrl.cli import doctor, launch_processes, list_envs, main, next_steps
from jaxdrl.cli import flags as cli_flags
from jaxdrl.config.algorithms import ALGORITHMS
from jaxdrl.config.stored import to_json
from jaxdrl.envs.contract import check
from jaxdrl.envs.suites import registry
from jaxdrl.serving import server
from page_code import FENCE, ROOT, blocks, run_blocks

FOLDERS = ("", "docs/", "docs/**/", "experiments/")
FILES = sorted({path for folder in FOLDERS for path in ROOT.glob(f"{folder}*.md")})
WITH_PYTHON = [path for path in FILES if blocks(path, "python")]
WITH_PYTHON.remove(ROOT / "docs/onnx.md")  # needs an extra: tests/analysis/test_onnx_file.py
ABSENT = {found.module for name, found in registry.BUILT_IN.items() if registry.missing(name)}
"""Modules of suites that are not installed, and those that import the same packages."""
WITH = {
    "craftax": ("drawing.craftax_tiles",),
    "jumanji": ("drawing.jumanji_boards", "suites.jumanji_agents", "suites.jumanji_spaces"),
}
ABSENT |= {f"jaxdrl.envs.{path}" for name in WITH if registry.missing(name) for path in WITH[name]}
if find_spec("mujoco") is None:  # which Brax and Playground bring
    ABSENT.add("jaxdrl.envs.drawing.mujoco_outlines")
NAMES = [m.name for m in pkgutil.walk_packages(jaxdrl.__path__, "jaxdrl.")]
MODULES = ["jaxdrl", *(name for name in NAMES if name not in ABSENT)]
TEXT_FILE = re.compile(r"(?<!\.com/)(?:jaxdrl|tests|experiments|notebooks|docs)/[\w./-]+")


def file_id(path):
    return path.relative_to(ROOT).as_posix()


def spans(path):
    """Inline code."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", path.read_text()))


def commands(path):
    """Lines of bash blocks and inline code that look like a command, without comments."""
    lines = [line for _, text in blocks(path, "bash") for line in text.splitlines()]
    for line in [*lines, *spans(path)]:
        words = shlex.split(line, comments=True)
        if words and (line in lines or words[0] in ("make", "jaxdrl", "python", "pip", "uv")):
            yield words


@functools.cache
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@functools.cache
def makefile():
    """`(targets, variables)`."""
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*##", text, re.MULTILINE))
    return targets, set(re.findall(r"^([A-Z]+)\s*\?=", text, re.MULTILINE))


def known_or_plain(env, algorithm):
    """The experiment of a task, without making an environment of a suite that may be absent."""
    return jaxdrl.make_experiment(env, algorithm) if "/" not in env else jaxdrl.Experiment(env)


def parse_flags(monkeypatch, program, flags):
    """The experiment that a command would run."""
    received = []
    monkeypatch.setattr(launch, "run", lambda experiment, **how: received.append(experiment))
    monkeypatch.setattr(launch, "resume", lambda *args, **kwargs: received.append((args, kwargs)))
    looking = (learning_curves, render, export, evaluate_verb, watch, server)
    for module in (check, doctor, list_envs, *looking):
        take = lambda *args, **kwargs: received.append((args, kwargs)) is None  # noqa: E731
        monkeypatch.setattr(module, "main", take)
    monkeypatch.setattr(launch_processes, "main", lambda *args: received.append(args))
    monkeypatch.setattr(cli_flags, "make_experiment", known_or_plain)
    monkeypatch.setattr(cli_flags, "read_experiment", lambda path: jaxdrl.Experiment("CartPole-v1"))
    monkeypatch.setattr("sys.argv", [program, *flags])
    if program.endswith(".py"):
        runpy.run_path(str(ROOT / program), run_name="__main__")
    else:
        main.main()
    (found,) = received
    return found


WITH_OPTIONS = {
    "experiments/benchmark.py": "Mode",
    "experiments/hosts.py": "Mode",
    "experiments/learning_table.py": "LearningTable",
    "experiments/board_games.py": "Options",
    "experiments/gpu_check.py": "Settings",
    "experiments/serve_faults.py": "Settings",
    "experiments/serve_load.py": "Settings",
}
"""What parses the flags of a script, by its name in it."""


def check_command(monkeypatch, words):
    """Fails unless the script, verb, target or extra exists and its flags parse."""
    program, *rest = words
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(project()["project"]["optional-dependencies"])
    scripts = ("faults", "actor_faults", "follow_faults", "pbt", "staleness")
    alone = [f"experiments/{name}.py" for name in scripts]
    if rest[:1] and rest[0] in (*alone, "docs/configuration.py"):
        assert rest[1:] == []
    elif rest[:1] and rest[0] in WITH_OPTIONS:
        monkeypatch.syspath_prepend(str(ROOT / "experiments"))
        names = runpy.run_path(str(ROOT / rest[0]))
        tyro.cli(names[WITH_OPTIONS[rest[0]]], args=rest[1:])
    elif program == "python" and rest and rest[0].endswith(".py"):
        parse_flags(monkeypatch, *rest[:1], rest[1:])
    elif program == "jaxdrl" and rest[:1] == ["--tyro-print-completion"]:
        assert rest[1] in ("bash", "zsh")
    elif program == "jaxdrl" and rest[1:] and "--help" not in rest:
        parse_flags(monkeypatch, "jaxdrl", rest)
        if rest[0] == "launch":
            inner = rest[rest.index("--") + 1 :]
            first = "python" if inner[0].endswith(".py") else "jaxdrl"
            if "..." not in inner:  # a command of any kind
                check_command(monkeypatch, [first, *inner])
    elif program == "make":
        targets, variables = makefile()
        settings = dict(word.split("=", 1) for word in rest if "=" in word)
        assert settings.keys() <= variables
        asked = [word for word in rest if "=" not in word]
        assert set(asked) <= targets
        if settings.get("EXTRAS"):
            extras = set(settings["EXTRAS"].split(","))
            assert extras <= set(project()["project"]["optional-dependencies"])
        if "ARGS" in settings and asked == ["train"]:
            flags = shlex.split(settings["ARGS"])
            parse_flags(monkeypatch, "experiments/cartpole.py", flags)
    elif program.endswith("pytest"):
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests/"))


def test_there_is_a_readme():
    assert ROOT / "README.md" in FILES


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_every_fenced_block_names_its_language(path):
    text = path.read_text()
    assert text.count("```") == 2 * len(FENCE.findall(text))
    languages = {match.group(2) for match in FENCE.finditer(text)}
    assert languages <= {"bash", "python", "text", "json", "toml"}


@pytest.mark.parametrize("path", WITH_PYTHON, ids=file_id)
def test_python_blocks_run(path, tmp_path):
    run_blocks(path, tmp_path)


def test_the_first_environment_of_ones_own_takes_ten_lines():
    page = ROOT / "docs/environments.md"
    lines = [line for line in blocks(page, "python")[0][1].splitlines() if line]
    assert (len(lines), "## In ten lines" in page.read_text()) == (10, True)


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_commands_exist_and_their_flags_parse(path, monkeypatch):
    for words in commands(path):
        words = ["CartPole-v1" if word == "ENV" else word for word in words]
        try:
            check_command(monkeypatch, words)
        except SystemExit:
            pytest.fail(f"{path.name}: {shlex.join(words)} does not parse")


@pytest.mark.parametrize("env", ["CartPole-v1", "MemoryChain-bsuite"])  # one has no picture
@pytest.mark.parametrize("of_sweep", [{}, {"settings": [{}]}], ids=["train", "sweep"])
def test_the_commands_that_a_run_ends_with_parse(env, of_sweep, tmp_path, monkeypatch):
    config = {"experiment": to_json(jaxdrl.make_experiment(env))}
    (tmp_path / "best.json").write_text(json.dumps(config))
    result = {"env_steps": 512_000, **of_sweep}
    run = SimpleNamespace(run_dir=tmp_path, env=jaxdrl.make(env), result=result)
    found = next_steps.next_steps(run)
    assert len(found) == 3
    for command in found:
        check_command(monkeypatch, shlex.split(command))


def test_jaxdrl_is_a_command_of_the_terminal_before_it_is_used():
    recipe = (ROOT / "Makefile").read_text().split("\ntrain:")[1].split("\n\n")[0]
    assert recipe.endswith(': . $(VENV)/bin/activate"')
    words = [words[0] for words in commands(ROOT / "README.md")]
    assert words.index("python3") < words.index(".") < words.index("pip") < words.index("jaxdrl")


@functools.cache
def benchmark_flags():
    found = set()
    for words in (("benchmark.py", "throughput"), ("gpu_check.py",)):
        command = [sys.executable, str(ROOT / "experiments" / words[0]), *words[1:], "--help"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found |= set(re.findall(r"--[\w.-]+", printed))
    return found


@functools.cache
def flags_of_commands():
    """Every flag that the help of a verb names, that of `train` for each algorithm."""
    of_algorithms = [["train", "--algorithm", name] for name in ALGORITHMS]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for words in (*([verb] for verb in (*launch_processes.VERBS, "launch")), *of_algorithms):
            with pytest.raises(SystemExit):
                main.main([*words, "--help"])
    return set(re.findall(r"--[\w.-]+", printed.getvalue()))


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_flags_in_the_text_exist(path):
    known = flags_of_commands()
    if path.parent.name == "experiments":
        known = known | benchmark_flags()
    flags = {span.split()[0] for span in spans(path) if span.startswith("--")}
    assert flags <= known


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_names_and_paths_in_the_text_exist(path):
    for span in spans(path):
        for name in re.findall(r"\bjaxdrl((?:\.[A-Za-z_]\w*)+)(?!\w)", span):
            found = jaxdrl
            for part in name.split(".")[1:]:
                found = find_attribute(found, part)
                assert found is not None, f"jaxdrl{name}"
        for name in TEXT_FILE.findall(span):
            assert (ROOT / name).exists(), name


def find_attribute(owner, name):
    if inspect.ismodule(owner) and not hasattr(owner, name) and hasattr(owner, "__path__"):
        return importlib.import_module(f"{owner.__name__}.{name}")
    fields = getattr(owner, "__dataclass_fields__", {})
    return fields.get(name) or getattr(owner, name, None)


def slug(heading):
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", FILES, ids=file_id)
def test_internal_links_point_to_something(path):
    text = re.sub(r"`[^`\n]+`", "`code`", FENCE.sub("", path.read_text()))
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text)
    targets += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", linked.read_text()), re.MULTILINE)
            assert anchor in map(slug, headings), target


# Docstrings


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    failed, _ = doctest.testmod(importlib.import_module(name), verbose=False)
    assert failed == 0


def test_there_are_examples_in_docstrings():
    assert (ROOT / "jaxdrl" / "envs" / "__init__.py").read_text().count(">>>")


def has_docstring(thing):
    """Whether somebody wrote one: dataclasses and NamedTuples come with their signature."""
    text = thing.__doc__ or ""
    return bool(text.strip()) and not text.startswith(f"{getattr(thing, '__name__', '?')}(")


def public_members(module):
    """`(name, thing)` of what a module defines, with the methods and properties of its classes."""
    for name, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == module.__name__
        if name.startswith("_") or not own or not (inspect.isclass(thing) or callable(thing)):
            continue
        yield f"{module.__name__}.{name}", thing
        for method, member in vars(thing).items() if inspect.isclass(thing) else ():
            function = member.fget if isinstance(member, property) else member
            own = getattr(function, "__module__", None) == module.__name__
            if own and inspect.isfunction(function) and not method.startswith("_"):
                yield f"{module.__name__}.{name}.{method}", function


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name):
    module = importlib.import_module(name)
    assert has_docstring(module)
    assert [full for full, thing in public_members(module) if not has_docstring(thing)] == []


def test_public_names():
    assert jaxdrl.__all__ == sorted(jaxdrl.__all__)
    assert dir(jaxdrl) == jaxdrl.__all__
    for name in jaxdrl.__all__:
        assert has_docstring(getattr(jaxdrl, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = jaxdrl.nope


def test_the_reference_has_a_line_for_every_public_name():
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (ROOT / "docs/reference.md").read_text(), re.M)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == jaxdrl.__all__


def test_public_names_are_what_a_type_checker_sees():
    source = (ROOT / "jaxdrl" / "__init__.py").read_text()
    seen = source.split("if TYPE_CHECKING:")[1].split("__version__")[0]
    names = re.findall(r"\w+", " ".join(re.findall(r"import (\([^)]*\)|.*)", seen)))
    assert sorted(names) == jaxdrl.__all__


def test_a_missing_docstring_would_be_seen():
    module = type(sys)("jaxdrl.nothing", "Says something.")
    exec(
        "import dataclasses\n"
        "def explained():\n    'Says something.'\n"
        "def bare(): pass\n"
        "@dataclasses.dataclass\n"
        "class Record:\n"
        "    x: int = 0\n"
        "    def method(self): pass\n"
        "    @property\n"
        "    def size(self): pass\n",
        vars(module) | {"__name__": "jaxdrl.nothing"},
        vars(module),
    )
    for thing in (module.explained, module.bare, module.Record):
        thing.__module__ = "jaxdrl.nothing"
    missing = [full for full, thing in public_members(module) if not has_docstring(thing)]
    names = ("bare", "Record", "Record.method", "Record.size")
    assert missing == [f"jaxdrl.nothing.{name}" for name in names]


def test_the_page_of_settings_is_that_of_the_dataclasses():
    written = runpy.run_path(str(ROOT / "docs/configuration.py"))["page"]()
    assert (ROOT / "docs/configuration.md").read_text() == written, "python docs/configuration.py"


def test_the_page_of_metrics_names_them_all(tmp_path):
    config = jaxdrl.with_settings(
        jaxdrl.PPOConfig(), num_envs=8, num_steps=4, num_minibatches=2, hidden_sizes=(4,)
    )
    agent = jaxdrl.ppo(jaxdrl.make("CartPole-v1"), config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    _, metrics = jax.eval_shape(agent.train_step, jax.eval_shape(agent.init, key))
    page = (ROOT / "docs/results.md").read_text()
    sums = {"episode_return_sum", "episode_length_sum"}  # which become means
    assert [name for name in metrics if name not in sums and f"`{name}`" not in page] == []


def test_the_messages_of_the_page_of_troubles_are_those_of_the_library():
    sources = "".join(path.read_text() for path in sorted((ROOT / "jaxdrl").rglob("*.py")))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # a literal in several pieces
    page = (ROOT / "docs/troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)`[^|]*\|", page, re.MULTILINE)
    assert len(messages) > 20
    for message in messages:
        assert all(piece in sources for piece in message.split("...")), message


# Figures


def test_the_table_of_what_is_learnt_is_that_of_the_script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    from learning import tables

    results = json.loads((ROOT / "experiments/results/learning_table.json").read_text())
    rows, text = results["tasks"], (ROOT / "experiments/results/learning_table.md").read_text()
    for algorithm in tables.algorithms_in(rows):
        assert "\n".join(tables.markdown_rows(tables.of_algorithm(rows, algorithm))) in text
    ppo = "\n".join(tables.markdown_rows(tables.of_algorithm(rows, "ppo")))
    assert ppo in (ROOT / "docs/performance.md").read_text()
    assert tables.compared(rows)
    for page in ("docs/algorithms.md", "experiments/results/learning_table.md"):
        assert "\n".join(tables.comparison(rows)) in (ROOT / page).read_text()


PEERS = ("rejax", "textbook", "brax")


@pytest.mark.parametrize(
    ("file", "peers"), [("throughput.json", PEERS), ("throughput_h100.json", ("textbook",))]
)
def test_the_table_of_speeds_is_that_of_the_benchmark(file, peers):
    results = json.loads((ROOT / "experiments/results" / file).read_text())["result"]
    page = (ROOT / "docs/performance.md").read_text()
    for measured in results.values():
        ratios = [measured["ratios"].get(peer) for peer in peers]
        cells = [
            "–" if r is None else "{median:.2f} ({min:.2f} to {max:.2f})".format(**r)
            for r in ratios
        ]
        assert f" | {speed_of(measured)} | {' | '.join(cells)} |\n" in page


def speed_of(measured):
    """Steps per second of a case of the benchmark, as the pages have them."""
    speed = measured["trainers"][measured["best"]]["speed"]["median"]
    return f"{speed / 1e3:.0f}k" if speed < 1e6 else f"{speed / 1e6:.1f}M"


@pytest.mark.parametrize(
    ("file", "case", "peers"),
    [
        ("throughput.json", "cartpole-256", ("rejax", "textbook")),
        ("throughput_h100.json", "cartpole-2048", ("textbook",)),
        ("throughput_h100.json", "pendulum-256", ("textbook",)),
    ],
)
def test_the_speeds_in_the_readme_are_those_of_the_benchmark(file, case, peers):
    results = json.loads((ROOT / "experiments/results" / file).read_text())["result"]
    readme = (ROOT / "README.md").read_text()
    numbers = [f"{results[case]['ratios'][peer]['median']:.2f}" for peer in peers]
    line = re.escape(speed_of(results[case])) + ".*" + ".* times.*".join(numbers) + " times"
    assert re.search(line, readme)
