"""Units of the parameters of environments, for the axes of pictures."""

from __future__ import annotations

from jaxdrl.evaluation.parameter_grid import TIME_LIMIT

UNITS = {
    "CartPole-v1": {
        "gravity": "m/s²",
        "masscart": "kg",
        "masspole": "kg",
        "length": "half the pole, m",
        "force_mag": "N",
        "tau": "s",
        "theta_threshold_radians": "rad",
        "x_threshold": "m",
    },
    "Pendulum-v1": {
        "max_speed": "rad/s",
        "max_torque": "N m",
        "dt": "s",
        "g": "m/s²",
        "m": "kg",
        "l": "m",
    },
    "Acrobot-v1": {
        "dt": "s",
        "link_length_1": "m",
        "link_length_2": "m",
        "link_mass_1": "kg",
        "link_mass_2": "kg",
        "link_com_pos_1": "m",
        "link_com_pos_2": "m",
        "link_moi": "kg m²",
        "max_vel_1": "rad/s",
        "max_vel_2": "rad/s",
        "torque_noise_max": "N m",
    },
    "Reacher-misc": {"dt": "s"},
    "Swimmer-misc": {"dt": "s"},
}
"""By environment and parameter; parameters without an entry have no physical unit."""


def with_unit(env: str, name: str) -> str:
    """The label of an axis.

    >>> with_unit("CartPole-v1", "force_mag"), with_unit("MountainCar-v0", "gravity")
    ('force_mag (N)', 'gravity')
    """
    unit = "steps" if name == TIME_LIMIT else UNITS.get(env, {}).get(name)
    return name if unit is None else f"{name} ({unit})"
