"""Writes configuration.md, beside this file, from the dataclasses: python docs/configuration.py."""

import dataclasses
from pathlib import Path

from jaxdrl.annotations import works
from jaxdrl.checks import hints_of
from jaxdrl.cli.help import explanations
from jaxdrl.config.acting import ActingConfig
from jaxdrl.config.dqn import DQNConfig
from jaxdrl.config.execution import ExecutionConfig
from jaxdrl.config.experiment import Experiment
from jaxdrl.config.impala import IMPALAConfig
from jaxdrl.config.network import NetworkConfig
from jaxdrl.config.ppo import PPOConfig
from jaxdrl.config.pqn import PQNConfig
from jaxdrl.config.sac import SACConfig
from jaxdrl.config.search_space import Sweep
from jaxdrl.config.settings import HYPERPARAMETER
from jaxdrl.config.td3 import TD3Config

PAGE = Path(__file__).with_suffix(".md")

HEAD = """\
# Configuration

This page lists every setting of a run with its type, default, meaning and flag. In Python, settings
are the fields of `jaxdrl.Experiment` and of the configs inside it, all of them frozen dataclasses:

- `experiment.algorithm` is the config of the algorithm, such as a `jaxdrl.PPOConfig`;
- `experiment.algorithm.network` and `experiment.algorithm.execution` hold its network and execution
  settings;
- `experiment.acting` says how acting and learning overlap;
- `experiment.sweep` is the search space of a sweep, or None.

On the command line, settings are flags of `jaxdrl train` and of the experiment scripts. Flags have
no prefix. `jaxdrl.make_config`, `jaxdrl.make_experiment` and `jaxdrl.with_settings` take the same
short names, whichever config a setting belongs to; no two settings of an experiment have the same
name:

```python
import jaxdrl

experiment = jaxdrl.make_experiment(
    "CartPole-v1", num_envs=64, hidden_sizes=(32,), reproducible=True, total_env_steps=20_000
)
longer = jaxdrl.with_settings(experiment, total_env_steps=40_000, learning_rate=3e-4)
print(longer.algorithm.network.hidden_sizes, longer.algorithm.execution.reproducible)
```

A setting that does not exist or cannot work is refused before anything is compiled, and the message
names the nearest one that works.

The defaults below are those of the classes. `jaxdrl train ENV` and `jaxdrl.make_experiment(ENV)`
start from the tuned preset of `ENV` instead; `jaxdrl train ENV --help` shows it.

A setting marked * can differ between the members of a sweep or population, within one program. In
`jaxdrl sweep` it takes a value or a range, `LOW:HIGH` or `log:LOW:HIGH`.

This page is written by `python docs/configuration.py`.
"""


SPELLINGS = {
    "env": "the first argument",
    "ranges": "`LOW:HIGH` in place of a value: `--learning-rate log:1e-4:1e-2`",
    "pbt_factor": "in Python",
    "pbt_resample": "in Python",
    "wave": "set by a sweep in waves",
    "shapes": "`--shape NAME=CHOICE,CHOICE`, for each",
    "trial": "set by a search",
}
"""Settings whose flag does not have their name."""


SECTIONS = (
    (Experiment, "What to train and for how long, and what to write on the way."),
    (PPOConfig, "The field `algorithm` of an experiment that trains by PPO, the default."),
    (IMPALAConfig, "The field `algorithm` of an experiment that trains by IMPALA."),
    (PQNConfig, "The field `algorithm` of an experiment that trains by PQN."),
    (DQNConfig, "The field `algorithm` of an experiment that trains by DQN."),
    (SACConfig, "The field `algorithm` of an experiment that trains by SAC."),
    (TD3Config, "The field `algorithm` of an experiment that trains by TD3."),
    (NetworkConfig, "The field `network` of the config of an algorithm."),
    (ExecutionConfig, "The field `execution` of the config of an algorithm."),
    (ActingConfig, "The field `acting` of an experiment, for environments of the host."),
    (
        Sweep,
        "The field `sweep` of an experiment, by flags of `jaxdrl sweep`; None trains one agent.",
    ),
)
"""The configs of the page, each with what it is."""


def table(config: type) -> list[str]:
    """Lines of a table of the fields of a config, without the configs in it."""
    words, hints = explanations(config), hints_of(config)
    lines = ["| field | value | default | meaning | flag |", "| --- | --- | --- | --- | --- |"]
    for field in dataclasses.fields(config):
        if field.name in ("acting", "algorithm", "network", "execution", "sweep"):
            continue
        required = field.default is dataclasses.MISSING
        value = {} if field.default_factory is not dataclasses.MISSING else field.default
        default = "required" if required and value != {} else f"`{value!r}`"
        flag = "--" + {"from_run": "from"}.get(field.name, field.name).replace("_", "-")
        kind = works(hints[field.name])
        text = words[field.name].replace("|", "\\|")
        flag = SPELLINGS.get(field.name, f"`{flag}`")
        mark = " *" if HYPERPARAMETER in field.metadata else ""
        lines.append(f"| `{field.name}`{mark} | {kind} | {default} | {text} | {flag} |")
    return lines


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for config, about in SECTIONS:
        parts += [f"## {config.__name__}", "", about, "", *table(config), ""]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
