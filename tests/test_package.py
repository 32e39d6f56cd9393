"""What is built for others: the wheel, the archive of the sources, and the types they come with."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import jaxdrl

ROOT = Path(__file__).parent.parent
FOLDERS = ("jaxdrl", "tests", "experiments", "notebooks", "docs")
WRITTEN_BY_PYTHON = {"__pycache__", ".ipynb_checkpoints"}


def build(directory):
    """`(wheel, archive of the sources)`, by the build backend itself: nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", "dist"]
    process = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    (wheel,) = (directory / "dist").glob("*.whl")
    (archive,) = (directory / "dist").glob("*.tar.gz")
    return wheel, archive


def files_below(root, *folders):
    """Files that somebody wrote, by their paths."""
    found = (path for folder in folders for path in (root / folder).rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix()
        for path in found
        if not WRITTEN_BY_PYTHON & set(path.parts)
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The project copied as it stands, with what must not be packed beside it, and built."""
    directory = tmp_path_factory.mktemp("project") / "jaxdrl"
    directory.mkdir()
    ignored = shutil.ignore_patterns(*WRITTEN_BY_PYTHON)
    for folder in (*FOLDERS, ".github"):
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, directory / folder, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, directory)
    for name in ("runs/first/config.json", ".venv/pyvenv.cfg", "jaxdrl/__pycache__/cli.pyc"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("not to be packed")
    return build(directory)


def test_the_wheel_holds_the_package_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    info = f"jaxdrl-{jaxdrl.__version__}.dist-info"
    described = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert names == files_below(ROOT, "jaxdrl") | {f"{info}/{name}" for name in described}
    assert {"jaxdrl/py.typed", "jaxdrl/cli/main.py"} <= names


def test_the_wheel_says_what_pyproject_says(built):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheel = zipfile.ZipFile(built[0])
    info = f"jaxdrl-{jaxdrl.__version__}.dist-info"
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["Version"] == jaxdrl.__version__
    assert "version" not in project  # it is written in one place
    assert metadata["License-Expression"] == project["license"]
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert len(needed) == len(project["dependencies"])
    assert set(metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert "jaxdrl = jaxdrl.cli.main:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_archive_holds_what_training_testing_and_building_need(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    folders = [folder for folder in FOLDERS if (ROOT / folder).exists()]
    texts = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile"}
    texts |= {"SECURITY.md", "CITATION.cff", "constraints.txt"}
    others = {"pyproject.toml", "hatch_build.py", "PKG-INFO", ".gitignore"}
    assert names == files_below(ROOT, *folders, ".github") | texts | others


def test_links_and_pictures_of_the_description_lead_into_the_repository(built):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = f"jaxdrl-{jaxdrl.__version__}.dist-info"
    metadata = email.message_from_bytes(zipfile.ZipFile(built[0]).read(f"{info}/METADATA"))
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload(decode=True).decode()
    targets = re.findall(r"\]\(([^)]*)\)", text)
    assert all(target.startswith("https://") for target in targets)
    place = f"{project['urls']['Repository']}/(blob|raw)/v{jaxdrl.__version__}/"
    paths = [re.sub(place, "", target) for target in targets if re.match(place, target)]
    assert len(paths) > 20
    assert all((ROOT / path.partition("#")[0]).exists() for path in paths)
    assert f"{project['urls']['Repository']}/raw/v{jaxdrl.__version__}/docs/images/" in text
    readme = (ROOT / "README.md").read_text()
    assert re.sub(place, "", text) == readme  # nothing else is changed
    assert not re.search(r"<(img|a)\b", readme)  # whose links would stay as they are


def test_the_archive_builds_the_same_wheel(built, tmp_path):
    wheel, archive = built
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in Python 3.11.2
    with tarfile.open(archive) as sources:
        sources.extractall(tmp_path, **safely)
    (unpacked,) = tmp_path.iterdir()
    assert build(unpacked)[0].read_bytes() == wheel.read_bytes()


PROGRAM = """
import jax
import jax.numpy as jnp
import jaxdrl

env = jaxdrl.make("CartPole-v1")
reveal_type(env)
reveal_type(jaxdrl.make_config("CartPole-v1"))
reveal_type(agent := jaxdrl.ppo(env, jaxdrl.PPOConfig()))
reveal_type(agent.train_step(0))
reveal_type(env.reset)
reveal_type(jaxdrl.run(jaxdrl.Experiment(env="CartPole-v1")))
reveal_type(jaxdrl.restore("runs/first").state)
reveal_type(jaxdrl.evaluate_run("runs/first").evaluation.mean_return)
jaxdrl.PPOConfig(num_env=8)
jaxdrl.typo
env.step(jax.random.key(0), 1)
jaxdrl.ppo(env, jaxdrl.PPOConfig()).init()
agent.policy.act(0, 0, 0, jnp.zeros(1), jax.random.key(0), determinstic=True)
"""
REVEALED = [
    r"tuple\[.*fallback=jaxdrl\.envs\.protocol\.Environment\]",
    r"jaxdrl\.config\.PPOConfig",
    r"tuple\[.*fallback=jaxdrl\.types\.Algorithm\]",
    r"tuple\[Any, (builtins\.)?dict\[(builtins\.)?str, jax.*Array\]\]",
    r"def \(jax.*Array, Any\) -> tuple\[Any, Any\]",
    r"jaxdrl\.runner\.Run",
    r"jaxdrl\.types\.TrainState",
    r"(builtins\.)?float",
]
REFUSED = [
    'Unexpected keyword argument "num_env"',
    'Module has no attribute "typo"',
    "Too few arguments",
    'Unexpected keyword argument "determinstic"',
]


@pytest.mark.slow
def test_what_is_installed_elsewhere_works_and_has_types(built, tmp_path):
    wheel, _ = built
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    # Not the sources that this process may have on its path.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "env": environ}
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], **options)
    assert installed.returncode == 0, installed.stderr
    helped = subprocess.run([python.with_name("jaxdrl"), "--help"], **options)
    assert helped.returncode == 0, helped.stderr
    assert "train" in helped.stdout
    assert helped.stderr == ""
    (tmp_path / "program.py").write_text(PROGRAM)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "program.py"]
    printed = subprocess.run(mypy, **options).stdout
    revealed = re.findall(r'Revealed type is "(.*)"', printed)
    assert len(revealed) == len(REVEALED), printed
    for actual, expected in zip(revealed, REVEALED, strict=True):
        assert re.fullmatch(expected, actual), actual
    for error in REFUSED:
        assert error in printed, printed
