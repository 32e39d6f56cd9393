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
      remark: what a reader of its learning curve has to know, in a line of at most 36 letters.
    """

    published: float | None = None
    best: float | None = None
    words: str = ""
    remark: str = ""


NOTES = {
    "CartPole-v1": Note(500, 500),
    "Acrobot-v1": Note(-80),
    "MountainCar-v0": Note(-118),
    "MountainCarContinuous-v0": Note(92, None, "below 100 because actions have a cost"),
    "Pendulum-v1": Note(
        -130,
        -138,
        "the best possible return was computed by value iteration on a grid, to within 1. No "
        "policy can expect the published score, which must be due to a favourable sample of "
        "initial states",
    ),
    "Asterix-MinAtar": Note(15),
    "Breakout-MinAtar": Note(
        28,
        None,
        "deterministic except for the side from which the ball starts. A greedy policy "
        "therefore plays one of two games, and its interval reflects only these two returns",
    ),
    "Freeway-MinAtar": Note(58),
    "Seaquest-MinAtar": Note(),
    "SpaceInvaders-MinAtar": Note(131),
    "Catch-bsuite": Note(1, 1),
    "DeepSea-bsuite": Note(
        None, 0.99, "of size 8, where random play finds the goal once in 256 episodes"
    ),
    "DiscountingChain-bsuite": Note(1.1, 1.1),
    "MemoryChain-bsuite": Note(
        0.1, 1, "needs a recurrent policy", "published: a policy without memory"
    ),
    "UmbrellaChain-bsuite": Note(
        1,
        1,
        "random rewards of +1 or -1 with mean 0 give the return of an episode a standard "
        "deviation of 3",
    ),
    "SimpleBandit-bsuite": Note(
        None,
        0.5,
        "gymnax shuffles the arms at each reset and ends the episode after one pull, so "
        "nothing can be learnt; bsuite fixes the arms by a seed",
    ),
    "FourRooms-misc": Note(1, 1),
    "MetaMaze-misc": Note(32, None, "needs a recurrent policy, because the goal is not observed"),
    "PointRobot-misc": Note(10, None, "needs a recurrent policy, because the goal is not observed"),
    "BernoulliBandit-misc": Note(
        90,
        bounds.bernoulli_bandit(),
        "needs a recurrent policy. 90 is the return of a player who knows the better arm from"
        " the start; no player can expect more than the Bayes-optimal one, whose return is "
        "the best possible",
    ),
    "GaussianBandit-misc": Note(0, bounds.gaussian_bandit(), "needs a recurrent policy"),
    "Reacher-misc": Note(None, 100, "100 is an upper bound, as if every goal were reached at once"),
    "Swimmer-misc": Note(None, 500, "500 is an upper bound of the same kind"),
    "Pong-misc": Note(
        None,
        1000,
        "gymnax pays 1 for each step in which neither side scores, and nothing for a point, "
        "so the best strategy is to keep the ball in play and to let the other side return it",
        "greedy play never misses the ball",
    ),
    "FrozenLake-misc": Note(None, bounds.frozen_lake(), "the slippery 4 x 4 map"),
    "jumanji/Snake-v1": Note(words="timed on one core"),
    "gymnasium/CartPole-v1": Note(500, 500),
    "envpool/CartPole-v1": Note(500, 500),
    "gymnasium/HalfCheetah-v5": Note(
        words="with --staleness 0 the mean of the same seeds was 2,628 (1,707 to 3,582): three of "
        "them ended at 1,700, and two found a gait that reached 3,900 and 4,100, which none did "
        "with data that was one update old"
    ),
    "craftax/Craftax-Classic-Symbolic-v1": Note(
        None,
        22,
        "sampled actions, which its authors report, reach 8.2 (7.9 to 8.6); the most probable"
        " action runs against walls. The settings of its authors, made for a billion steps, "
        "reach 5.3 with sampled actions after the same number of steps in this trainer. Timed"
        " on one core",
    ),
}
"""By the name of the environment."""
