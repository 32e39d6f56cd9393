"""The best that can be reached where it can be worked out, with everything but luck known."""

import math
from functools import cache

import numpy as np

FROZEN_LAKE = ("SFFF", "FHFH", "FFFH", "HFFG")
"""Start, frozen, hole and goal of the 4 x 4 map."""


def bernoulli_bandit(num_steps: int = 100, low: float = 0.1) -> float:
    """Return of the Bayes-optimal player of two arms that pay with `low` and `1 - low`.

    Which is which is drawn anew for each episode. With log-odds `k log((1 - low) / low)` for one of
    them it is best to pull the likelier one; what a pull tells does not depend on the arm.
    """
    high = 1.0 - low

    @cache
    def value(steps: int, lead: int) -> float:
        """Of `steps` pulls, after `lead` more signs for the first arm than for the second."""
        if steps == 0:
            return 0.0
        first = 1.0 / (1.0 + (low / high) ** lead)
        best = max(first, 1.0 - first)
        # A reward of the likelier arm, or none of the other, is a sign for the likelier one.
        reward = best * high + (1.0 - best) * low
        step = 1 if first >= 0.5 else -1
        after = reward * value(steps - 1, lead + step)
        return reward + after + (1.0 - reward) * value(steps - 1, lead - step)

    return value(num_steps, 0)


def gaussian_bandit(num_steps: int = 100, mean: float = -1.0, deviation: float = 1.0) -> float:
    """Bound on two arms, of 0 and of N(mean, deviation^2) an episode: one pull tells which is best.

    mean + (num_steps - 1) E[max(0, mu)]; the noise of a pull, of deviation 0.1, is left out.
    """
    z = mean / deviation
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    below = 0.5 * math.erfc(-z / math.sqrt(2.0))
    return mean + (num_steps - 1) * (mean * below + deviation * density)


def frozen_lake(num_steps: int = 100) -> float:
    """Probability of the goal within `num_steps`, by value iteration; two moves of three slip."""
    size = len(FROZEN_LAKE)
    value = np.zeros((size, size))
    moves = ((0, -1), (1, 0), (0, 1), (-1, 0))
    for _ in range(num_steps):
        new = np.zeros_like(value)
        for row in range(size):
            for column in range(size):
                if FROZEN_LAKE[row][column] in "HG":
                    continue
                lands = []
                for move in moves:
                    to = [min(max(x, 0), size - 1) for x in (row + move[0], column + move[1])]
                    is_goal = FROZEN_LAKE[to[0]][to[1]] == "G"
                    lands.append(1.0 if is_goal else value[to[0], to[1]])
                # The move that is meant, and those to its left and right, a third each.
                new[row, column] = max(
                    (lands[k - 1] + lands[k] + lands[(k + 1) % 4]) / 3 for k in range(4)
                )
        value = new
    return float(value[0, 0])


def pendulum(num_angles: int = 91, num_speeds: int = 81, num_torques: int = 9) -> float:
    """Best mean return of Pendulum's 200 steps, by value iteration on a grid of its state.

    Values between the points are interpolated, which costs a little: -141.0 on this grid,
    -139.0 on 181 x 161 x 17, -138.0 on 361 x 321 x 17.
    """
    angles = np.linspace(-math.pi, math.pi, num_angles, endpoint=False)
    speeds = np.linspace(-8.0, 8.0, num_speeds)
    angle, speed, torque = np.meshgrid(
        angles, speeds, np.linspace(-2.0, 2.0, num_torques), indexing="ij"
    )
    cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
    # Gravity 10, mass and length 1, steps of 0.05.
    next_speed = np.clip(speed + (15.0 * np.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
    next_angle = (angle + 0.05 * next_speed + math.pi) % (2.0 * math.pi) - math.pi
    x = (next_angle + math.pi) / (2.0 * math.pi) * num_angles
    y = (next_speed + 8.0) / 16.0 * (num_speeds - 1)
    i, j = np.floor(x).astype(int), np.minimum(np.floor(y).astype(int), num_speeds - 2)
    across, up = x - i, y - j
    corners = [
        ((1 - across) * (1 - up), i % num_angles * num_speeds + j),
        (across * (1 - up), (i + 1) % num_angles * num_speeds + j),
        ((1 - across) * up, i % num_angles * num_speeds + j + 1),
        (across * up, (i + 1) % num_angles * num_speeds + j + 1),
    ]
    value = np.zeros(num_angles * num_speeds)
    for _ in range(200):
        future = sum(weight * value[at] for weight, at in corners)
        value = (cost + future).min(axis=2).reshape(-1)
    starts = value.reshape(num_angles, num_speeds)[:, np.abs(speeds) <= 1.0]
    return -float(starts.mean())
