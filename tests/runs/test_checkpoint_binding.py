"""What a checkpoint is bound to, and what `resume` may change nevertheless."""

import copy
import json
from pathlib import Path

import pytest

from jaxdrl.config.experiment import Experiment
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import finite
from jaxdrl.io.log_files import LogFile
from jaxdrl.runs.checkpoint_binding import differences, require_logs, require_of_run, value_at
from small_runs import config_of

PATH = Path("runs/x/checkpoints/00000003")
CONFIG = finite(
    config_of(
        Experiment("CartPole-v1", env_params={"length": 0.5}, algorithm=PPOConfig(target_kl=0.1))
    )
    | {"env_params": {"gravity": 9.8, "table": {"shape": [3], "sha256": "ab"}}}
    | {"versions": {"jax": "1"}, "devices": {"num": 2}}
)


def changed(name, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = name.split(".")
    inside = config
    for parent in parents:
        inside = inside[parent]
    inside[last] = value
    return config


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("experiment.seed", 1),
        ("experiment.env", "Acrobot-v1"),
        ("experiment.log_every", 2),
        ("experiment.env_params.length", 0.25),
        ("experiment.algorithm.learning_rate", 2e-3),
        ("experiment.algorithm.target_kl", None),
        ("experiment.algorithm.network.hidden_sizes", [64, 63]),
        ("env_params.gravity", 9.7),
        ("env_params.table.sha256", "ac"),
        ("overrides", ["network"]),
    ],
)
def test_a_checkpoint_of_another_config_is_refused_by_field_and_values(name, value):
    config = changed(name, value)
    require_of_run(CONFIG, PATH, {"config": CONFIG})
    with pytest.raises(ConfigError) as caught:
        require_of_run(config, PATH, {"config": CONFIG})
    assert str(caught.value) == (
        f"{PATH}: was saved with {name} = {value_at(CONFIG, name)!r}, and config.json has "
        f"{value!r}; put back what was there"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("experiment.devices", 8),
        ("experiment.total_env_steps", 7),
        ("experiment.run_dir", "elsewhere"),
        ("experiment.algorithm.anneal_env_steps", 7.0),
        ("has_checkpoints", True),
        ("versions", {"jax": "2"}),
        ("devices", {"num": 8}),
    ],
)
def test_what_resume_may_change_is_no_difference(name, value):
    require_of_run(changed(name, value), PATH, {"config": CONFIG})
    assert differences(changed(name, value), CONFIG) == []


def test_a_checkpoint_of_another_run_is_refused_even_with_the_same_config():
    with pytest.raises(ConfigError, match=r"of another run \(a run, while this one is another\)"):
        require_of_run(changed("run_id", "another"), PATH, {"config": CONFIG})


@pytest.mark.parametrize("name", ["metrics.jsonl", "lineage.jsonl"])
def test_every_log_is_bound(tmp_path, name):
    logs = [LogFile(tmp_path / each, print) for each in ("metrics.jsonl", "lineage.jsonl")]
    for log in logs:
        log.append(b'{"update": 1}\n')
    files = {log.path.name: log.snapshot() for log in logs}
    manifest = json.loads(json.dumps({"update": 1, "progress": {"log": {"files": files}}}))
    for log in logs:
        log.append(b'{"update": 2}\n')
    require_logs(tmp_path, PATH, manifest)
    (tmp_path / name).write_text('{"update": 3}\n{"update": 2}\n')
    with pytest.raises(ConfigError) as caught:
        require_logs(tmp_path, PATH, manifest)
    assert str(caught.value).startswith(
        f"{tmp_path / name}: its first 14 bytes are not what was written before the checkpoint of "
        "update 1"
    )
