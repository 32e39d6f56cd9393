"""What is known of each task besides our own results: published scores, bounds, remarks."""

from dataclasses import dataclass

from learning import bounds


@dataclass(frozen=True)
class Note:
    """Of one task.

    Attributes:
      published: the best published mean return by PPO or evolution strategies on the same task.
      best: the best possible mean return, where it can be worked out.
      words: what a reader has to know to judge the score.
    """

    published: float | None = None
    best: float | None = None
    words: str = ""


NOTES = {
    "CartPole-v1": Note(500, 500),
    "Acrobot-v1": Note(-80),
    "MountainCar-v0": Note(-118),
    "MountainCarContinuous-v0": Note(92, None, "less than 100 by the cost of the actions"),
    "Pendulum-v1": Note(
        -130,
        -138,
        "the best possible is by value iteration on a grid, to within 1: no policy can expect the "
        "published score, which its sample of starts must have favoured",
    ),
    "Asterix-MinAtar": Note(15),
    "Breakout-MinAtar": Note(
        28,
        None,
        "deterministic but for the side from which the ball starts: a greedy policy plays one of "
        "two games, whose returns are all that its interval is made of",
    ),
    "Freeway-MinAtar": Note(58),
    "Seaquest-MinAtar": Note(),
    "SpaceInvaders-MinAtar": Note(131),
    "Catch-bsuite": Note(1, 1),
    "DeepSea-bsuite": Note(None, 0.99, "of size 8, where random play finds the goal once in 256"),
    "DiscountingChain-bsuite": Note(1.1, 1.1),
    "MemoryChain-bsuite": Note(0.1, 1, "needs memory"),
    "UmbrellaChain-bsuite": Note(
        1, 1, "rewards of +1 or -1 at random, of mean 0, make an episode's deviation 3"
    ),
    "SimpleBandit-bsuite": Note(
        None,
        0.5,
        "gymnax shuffles the arms at each reset and ends the episode after one pull, so that "
        "nothing can be learnt; bsuite fixes them by a seed",
    ),
    "FourRooms-misc": Note(1, 1),
    "MetaMaze-misc": Note(32, None, "needs memory: the goal is not seen"),
    "PointRobot-misc": Note(10, None, "needs memory: the goal is not seen"),
    "BernoulliBandit-misc": Note(
        90,
        bounds.bernoulli_bandit(),
        "needs memory; 90 is the return of one who knows the better arm from the start, and no "
        "player can expect more than the Bayes-optimal one, whose return is the best possible",
    ),
    "GaussianBandit-misc": Note(0, bounds.gaussian_bandit(), "needs memory"),
    "Reacher-misc": Note(None, 100, "100 is a bound, as if every goal were reached at once"),
    "Swimmer-misc": Note(None, 500, "500 is a bound, likewise"),
    "Pong-misc": Note(
        None,
        1000,
        "gymnax pays 1 for each step without a point against either side, and nothing for a "
        "point: the best is never to let the ball out, and to let the other side return it",
    ),
    "FrozenLake-misc": Note(None, bounds.frozen_lake(), "of 4 x 4, slippery"),
    "jumanji/Snake-v1": Note(words="timed on one core"),
    "craftax/Craftax-Classic-Symbolic-v1": Note(
        None,
        22,
        "sampled actions, which its authors report, reach 8.2 (7.9 to 8.6): the most probable "
        "action runs against walls. The settings of its authors, made for a billion steps, reach "
        "5.3 sampled after as many steps in this trainer. Timed on one core",
    ),
}
"""By the name of the environment."""
