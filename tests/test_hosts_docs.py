"""The files of docs/hosts do what docs/hosts.md says of them, as far as one machine can tell.

Launchers and schedulers are short scripts here that start the command as the real ones would; they
keep neither the variables nor the timing of the real ones.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from jaxdrl.distributed.cluster import find
from test_docs import parse_flags

FOLDER = Path(__file__).parent.parent / "docs/hosts"
SHELL = ("slurm.sbatch", "mpirun.sh", "ssh.sh", "torchrun.sh")
YAML = ("jobset.yaml", "indexed-job.yaml")
COMMAND = re.compile(r'jaxdrl"?,? "?train.*?--resume')

JAXDRL = """
echo "started ${JAX_PROCESS_ID:-} ${JAX_COORDINATOR_ADDRESS:-}" >> "$FAKE/log"
code=$(sed -n "$(wc -l < "$FAKE/log")p" "$FAKE/codes")
case $code in
  done) touch "$RUN_DIR/result.json"; exit 0 ;;
  until-signal)
    trap 'sleep 0.3; echo saved >> "$FAKE/saved"; exit 0' TERM
    for _ in $(seq 200); do sleep 0.05; done ;;
  *) exit "$code" ;;
esac
"""
MPIRUN = """
while [ "$1" != bash ]; do shift; done
setsid "$@" & group=$!  # the real one signals all that a process has started
trap 'kill -USR1 -- -$group' USR1
wait $group; code=$?
while kill -0 $group 2>/dev/null; do wait $group; code=$?; done
exit $code
"""
OTHERS = {
    "jaxdrl": JAXDRL,
    "srun": 'while [ "$1" != jaxdrl ]; do shift; done; exec "$@"',
    "mpirun": MPIRUN,
    "torchrun": 'while [ "$1" != jaxdrl ]; do shift; done; exec "$@"',
    "ssh": 'exec bash -c "${@: -1}"',
    "scontrol": 'echo "$*" >> "$FAKE/requeued"',
}


@pytest.fixture
def machine(tmp_path):
    """A machine with fakes of all commands: starts a script there, with the codes of `jaxdrl`."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    commands, venv = tmp_path / "commands", tmp_path / "venv"
    for folder in (commands, venv / "bin", tmp_path / "run"):
        folder.mkdir(parents=True)
    (venv / "bin/activate").write_text("")
    for name, text in OTHERS.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}\n")
        (commands / name).chmod(0o755)

    def start(script, *codes, **variables):
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        environ = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "FAKE": str(tmp_path),
            "RUN_DIR": str(tmp_path / "run"),
            "VENV": str(venv),
            "SLURM_JOB_ID": "77",
            "SLURM_CPUS_PER_TASK": "4",
        }
        return subprocess.Popen(
            ["bash", *script],
            env=environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    start.folder = tmp_path
    return start


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def run(machine, script, *codes, **variables):
    """`(exit code, number of processes that it started)`."""
    process = machine(script, *codes, **variables)
    process.communicate(timeout=30)
    return process.returncode, len(lines(machine.folder / "log"))


def run_until_signal(machine, script, number, num_processes, **variables):
    """The exit code of a script that gets a signal once its processes run."""
    process = machine(script, *["until-signal"] * num_processes, **variables)
    deadline = time.monotonic() + 20
    while len(lines(machine.folder / "log")) < num_processes and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


@pytest.mark.parametrize("name", SHELL)
def test_scripts_are_scripts(name):
    subprocess.run(["bash", "-n", FOLDER / name], check=True)


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_the_page_shows_every_file_and_its_command_parses(path, monkeypatch):
    assert f"hosts/{path.name})" in (FOLDER.parent / "hosts.md").read_text()
    (found,) = COMMAND.findall(path.read_text())
    words = re.sub(r'[",$]', " ", found).split()
    assert words[:2] == ["jaxdrl", "train"] and "RUN_DIR" in words
    experiment = parse_flags(monkeypatch, "jaxdrl", words[1:])
    assert experiment.algorithm.execution.num_shards == 32


def test_the_script_of_ray_compiles():
    compile((FOLDER / "ray_launch.py").read_text(), "ray_launch.py", "exec")


# SLURM


@pytest.mark.parametrize(
    ("codes", "code", "num_tries", "is_requeued"),
    [
        (["done"], 0, 1, False),
        (["75", "137", "done"], 0, 3, False),
        (["75", "75", "75"], 0, 3, True),
        (["0"], 0, 1, True),
        (["143"], 0, 1, True),
        (["2"], 2, 1, False),
        (["75", "1"], 1, 2, False),
    ],
    ids=["done", "lost-twice", "lost", "out-of-time", "out-of-time-early", "refused", "failed"],
)
def test_a_job_of_slurm(machine, codes, code, num_tries, is_requeued):
    found = run(machine, [FOLDER / "slurm.sbatch"], *codes)
    assert found == (code, num_tries)
    assert lines(machine.folder / "requeued") == ["requeue 77"] * is_requeued


def test_a_job_of_slurm_is_not_requeued_for_ever(machine):
    assert run(machine, [FOLDER / "slurm.sbatch"], *["75"] * 3, SLURM_RESTART_COUNT="50") == (75, 3)
    assert lines(machine.folder / "requeued") == []


def test_the_options_of_the_job_of_slurm():
    text = (FOLDER / "slurm.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", text, re.MULTILINE))
    assert int(options["nodes"]) * int(options["gpus-per-node"]) == 32  # the shards
    assert options["signal"] == "TERM@120" and "requeue" in options


# mpirun, torchrun and ssh


@pytest.mark.parametrize(
    ("codes", "code", "num_tries"),
    [(["done"], 0, 1), (["75", "137", "done"], 0, 3), (["75", "2"], 2, 2), (["1"], 1, 1)],
)
def test_mpirun_starts_again_after_a_loss(machine, codes, code, num_tries):
    assert run(machine, [FOLDER / "mpirun.sh"], *codes) == (code, num_tries)
    assert "--bind-to none" in (FOLDER / "mpirun.sh").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_mpirun_lets_its_processes_save(machine, number):
    assert run_until_signal(machine, [FOLDER / "mpirun.sh"], number, 1) == 0
    assert lines(machine.folder / "saved") == ["saved"]


def test_torchrun(machine):
    assert run(machine, [FOLDER / "torchrun.sh"], "done") == (0, 1)


@pytest.mark.parametrize(
    ("codes", "code", "num_started"),
    [
        (["done", "done"], 0, 2),
        (["75", "137", "done", "done"], 0, 4),
        (["2", "2"], 2, 2),
        (["75", "1"], 1, 2),
    ],
)
def test_ssh_starts_again_after_a_loss(machine, codes, code, num_started):
    found = run(machine, [FOLDER / "ssh.sh"], *codes, HOSTS="a b")
    assert found == (code, num_started)
    started = [line.split() for line in lines(machine.folder / "log")[:2]]
    assert sorted(started) == [["started", "0", "a:8476"], ["started", "1", "a:8476"]]


def test_ssh_lets_its_processes_save(machine):
    code = run_until_signal(machine, [FOLDER / "ssh.sh"], signal.SIGTERM, 2, HOSTS="a b")
    assert code == 130 and lines(machine.folder / "saved") == ["saved"] * 2


# Kubernetes


def documents(name):
    yaml = pytest.importorskip("yaml")
    return {
        document["kind"]: document for document in yaml.safe_load_all((FOLDER / name).read_text())
    }


def job_of(name):
    """`(spec of the job, its name, subdomain of its pods)`."""
    found = documents(name)
    if "Job" in found:
        job = found["Job"]
        assert found["Service"]["spec"]["clusterIP"] == "None"
        assert job["spec"]["template"]["spec"]["subdomain"] == found["Service"]["metadata"]["name"]
        return job["spec"], job["metadata"]["name"], found["Service"]["metadata"]["name"]
    whole = found["JobSet"]["metadata"]["name"]
    (job,) = found["JobSet"]["spec"]["replicatedJobs"]
    assert job["replicas"] == 1
    return job["template"]["spec"], f"{whole}-{job['name']}-0", whole


@pytest.mark.parametrize("name", YAML)
def test_the_pods_find_each_other(name):
    spec, job, subdomain = job_of(name)
    assert spec["completionMode"] == "Indexed" and spec["completions"] == spec["parallelism"]
    (container,) = spec["template"]["spec"]["containers"]
    environ = {variable["name"]: variable["value"] for variable in container["env"]}
    assert container["resources"]["limits"]["nvidia.com/gpu"] * spec["completions"] == 32
    for index in range(spec["completions"]):
        pod = f"{job}-{index}.{subdomain}.default.svc.cluster.local"
        cluster = find(environ | {"JOB_COMPLETION_INDEX": str(index)}, host_name=pod)
        assert cluster.coordinator == f"{job}-0.{subdomain}.default.svc.cluster.local:8476"
        assert (cluster.num_processes, cluster.index) == (spec["completions"], index)


@pytest.mark.parametrize("name", YAML)
def test_pods_are_replaced_but_for_codes_that_stay(name):
    spec, _, _ = job_of(name)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # which the policy needs
    rule = spec["podFailurePolicy"]["rules"][0]
    (container,) = spec["template"]["spec"]["containers"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [1, 2]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    claims = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == claims


@pytest.mark.parametrize("name", YAML)
def test_only_pods_of_the_run_may_connect(name):
    spec = documents(name)["NetworkPolicy"]["spec"]
    ((label, value),) = spec["podSelector"]["matchLabels"].items()
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["ingress"] == [{"from": [{"podSelector": {"matchLabels": {label: value}}}]}]
    assert (label, value) in {
        ("jobset.sigs.k8s.io/jobset-name", "ant"),
        ("batch.kubernetes.io/job-name", "ant"),
    }


@pytest.mark.parametrize("name", YAML)
@pytest.mark.parametrize(("found", "code"), [("done", 0), ("0", 75), ("75", 75), ("2", 2)])
def test_a_pod_that_was_stopped_early_is_replaced(machine, name, found, code):
    spec, _, _ = job_of(name)
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["bash", "-c"]
    assert run(machine, ["-c", *container["args"]], found) == (code, 1)


@pytest.mark.parametrize("name", YAML)
def test_a_pod_that_is_deleted_saves_first(machine, name):
    spec, _, _ = job_of(name)
    (container,) = spec["template"]["spec"]["containers"]
    assert run_until_signal(machine, ["-c", *container["args"]], signal.SIGTERM, 1) == 75
    assert lines(machine.folder / "saved") == ["saved"]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 60
