"""`jaxdrl render`: films of whole episodes, played by the policy of a run."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import jaxdrl
from jaxdrl.analysis import film_writer, render
from jaxdrl.cli import main
from jaxdrl.config.settings import with_settings
from jaxdrl.envs.drawing.canvas import BLUE, LIGHT, VERMILLION
from jaxdrl.errors import ConfigError
from jaxdrl.io.json_files import write_sealed
from jaxdrl.runs import assemble
from small_runs import CARTPOLE, PPO


def shade(env_state, params):
    """A picture of nothing but how much time is over."""
    return np.full((8, 12, 3), 10 * int(env_state.time), np.uint8)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A short run with memory and statistics of observations."""
    experiment = dataclasses.replace(
        CARTPOLE,
        total_env_steps=128,
        evaluate_every=None,
        devices=1,
        run_dir=tmp_path_factory.mktemp("runs") / "run",
        algorithm=with_settings(PPO, memory="gru", memory_size=8, normalize_observations=True),
    )
    jaxdrl.run(experiment)
    return experiment.run_dir


def copy_of(run_dir, tmp_path, **changes):
    """The same run with another config."""
    config = json.loads((run_dir / "config.json").read_text())
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    copy = tmp_path / "run"
    copy.mkdir()
    write_sealed(copy / "config.json", config)
    (copy / "checkpoints").symlink_to(run_dir / "checkpoints")
    return copy


@pytest.fixture
def composed(monkeypatch):
    """The tiles of every frame, as they are put together."""
    seen, compose = [], film_writer.compose

    def remember(title, tiles):
        seen.append((title, list(tiles)))
        return compose(title, tiles)

    monkeypatch.setattr(film_writer, "compose", remember)
    return seen


def read(path):
    with Image.open(path) as film:
        frames = []
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")))
        return frames


def strips(frame, num):
    """Colours of the ends of the words above the pictures of two columns."""
    width = (frame.shape[1] - film_writer.GAP) // 2
    height = (frame.shape[0] - film_writer.TITLE) // (num // 2)
    corners = [
        (film_writer.TITLE + 1 + i // 2 * height, film_writer.GAP + i % 2 * width)
        for i in range(num)
    ]
    return ["#" + bytes(frame[y, x]).hex() for y, x in corners]


def test_a_film_shows_the_episodes_that_evaluate_counts(run_dir, composed):
    path = jaxdrl.render_run(run_dir, num_envs=4, seed=5)
    assert path == run_dir / "film.gif"
    expected = jaxdrl.evaluate_run(run_dir, num_episodes=4, seed=5).evaluation
    lengths = expected.lengths.tolist()
    assert len(set(lengths)) > 1
    frames = read(path)
    assert len(frames) == max(lengths) + 1
    assert {title for title, _ in composed} == {"CartPole-v1, after update 1"}
    in_order = [tiles for _, tiles in composed[-len(frames) :]]
    for step, tiles in enumerate(in_order):
        for tile, length in zip(tiles, lengths, strict=True):
            # Every step of CartPole is worth 1; after 12 the limit is reached.
            assert tile.left == f"return {min(step, length)}"
            end = "" if step < length else "time limit, " if length == 12 else "terminated, "
            assert tile.right == f"{end}step {min(step, length)}"
    assert [tile.left for tile in in_order[-1]] == [f"return {r:.0f}" for r in expected.returns]
    for step in (0, min(lengths), max(lengths)):
        colours = [LIGHT if step < n else BLUE if n == 12 else VERMILLION for n in lengths]
        assert strips(frames[step], 4) == colours
    first = int(np.argmin(lengths))
    pictures = [tiles[first].picture for tiles in in_order]
    end = lengths[first]
    assert all((picture == pictures[end]).all() for picture in pictures[end:])
    assert (pictures[end - 1] != pictures[end]).any()


def test_films_of_one_seed_are_the_same_bytes(run_dir, tmp_path):
    def film(name):
        return jaxdrl.render_run(run_dir, tmp_path / name, num_steps=5).read_bytes()

    assert film("a.gif") == film("b.gif")


def test_samples_and_a_drawing_of_ones_own(run_dir, tmp_path, composed):
    env = jaxdrl.restore(run_dir).env._replace(draw=shade)
    path = jaxdrl.render_run(run_dir, tmp_path / "a.gif", num_envs=4, env=env, greedy=False)
    expected = jaxdrl.evaluate_run(run_dir, num_episodes=4, greedy=False).evaluation
    title, tiles = composed[-1]
    assert title == "CartPole-v1, after update 1, sampled"
    assert [tile.left for tile in tiles] == [f"return {r:.0f}" for r in expected.returns]
    assert [tile.picture[0, 0, 0] for tile in tiles] == (10 * expected.lengths).tolist()
    assert len(read(path)) == expected.lengths.max() + 1


def test_long_films_are_thinned_and_cut(run_dir, tmp_path, composed):
    path = jaxdrl.render_run(run_dir, tmp_path / "thin.gif", max_frames=4, num_envs=4, fps=50)
    with Image.open(path) as film:
        assert 3 <= film.n_frames <= 4
        assert film.info["duration"] == 20
    composed.clear()
    path = jaxdrl.render_run(run_dir, tmp_path / "cut.gif", num_steps=3)
    assert len(read(path)) == 4
    assert composed[-1][1][0][1:3] == ("return 3", "step 3")


def test_parameters_of_the_run_are_drawn(run_dir, composed, tmp_path, monkeypatch):
    """Those in its config, also where gymnax has other defaults by now."""
    jaxdrl.render_run(run_dir, tmp_path / "a.gif", num_steps=1)
    usual = composed[-1][1][0].picture
    newer = jaxdrl.make("CartPole-v1", length=1.0, max_steps_in_episode=12)
    monkeypatch.setattr(assemble, "make", lambda name, **params: newer)
    assemble._made.cache_clear()
    jaxdrl.render_run(run_dir, tmp_path / "b.gif", num_steps=1)
    np.testing.assert_array_equal(composed[-1][1][0].picture, usual)


def test_the_command_says_what_is_in_the_film(run_dir, tmp_path, capsys):
    run_dir, out = run_dir, tmp_path / "deep" / "film.gif"
    main.main(["render", str(run_dir), "--out", str(out), "--num-envs", "2", "--max-frames", "4"])
    printed = capsys.readouterr().out.splitlines()
    returns = jaxdrl.evaluate_run(run_dir, num_episodes=2).evaluation.returns
    assert printed[0].startswith("CartPole-v1, after update 1: ")
    assert printed[0].endswith(f"returns {returns[0]:.0f}, {returns[1]:.0f}")
    num = len(read(out))
    assert printed[1].startswith(f"{num} frames, every ")
    assert " step and the last, 5 per second, 0.0 MiB" in printed[1]
    assert printed[2] == f"film: {out}"


# Refusals


def without_checkpoints(run_dir, tmp_path, **changes):
    """A run of which nothing can be restored."""
    copy = copy_of(run_dir, tmp_path, **changes)
    (copy / "checkpoints").unlink()
    with pytest.raises(ConfigError, match="checkpoint"):
        jaxdrl.restore(copy)
    return copy


def test_an_environment_that_nothing_draws_is_refused_at_once(run_dir, tmp_path, capsys):
    chain = {"env": "MemoryChain-bsuite", "env_params": {}}
    with pytest.raises(SystemExit) as caught:
        main.main(["render", str(without_checkpoints(run_dir, tmp_path, experiment=chain))])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert "env = 'MemoryChain-bsuite': has no drawing; give it a function" in message
    assert "env=jaxdrl.make('MemoryChain-bsuite')._replace(draw=my_draw))" in message


def test_what_the_message_says_works(run_dir, monkeypatch):
    """The line of Python in it."""
    env = jaxdrl.restore(run_dir).env._replace(draw=None)
    with pytest.raises(ConfigError) as caught:
        jaxdrl.render_run(run_dir, env=env)
    exec(str(caught.value).split("in Python: ")[1], {"jaxdrl": jaxdrl, "my_draw": shade})
    assert (10, 10, 10) in {tuple(frame[100, 100]) for frame in read(run_dir / "film.gif")}


def test_a_directory_that_is_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["render", str(tmp_path)])
    assert caught.value.code == 2
    assert "is not a run (it has no config.json)" in capsys.readouterr().err


def test_another_kind_of_file_is_refused_at_once(run_dir, tmp_path):
    run_dir = without_checkpoints(run_dir, tmp_path)
    with pytest.raises(ConfigError, match=r"must end in one of \.gif, \.mp4"):
        jaxdrl.render_run(run_dir, tmp_path / "film.avi")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_envs": 0}, "num_envs = 0"),
        ({"num_envs": 37}, "num_envs = 37: must be an integer from 1 to 36"),
        ({"num_steps": 0}, "num_steps = 0"),
        ({"max_frames": 1}, "max_frames = 1: must be an integer of at least 2"),
        ({"fps": 51}, "fps = 51: must be an integer from 1 to 50"),
        ({"fps": 0}, "fps = 0"),
        ({"seed": -1}, "seed = -1: must be an integer from 0"),
    ],
)
def test_bad_numbers_are_refused_at_once(run_dir, tmp_path, changes, complaint):
    run_dir = without_checkpoints(run_dir, tmp_path)
    with pytest.raises(ConfigError, match=complaint):
        jaxdrl.render_run(run_dir, **changes)


def test_a_run_with_an_environment_of_ones_own_wants_it_again(run_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"jaxdrl\.render_run\(.*, env=my_env\)"):
        jaxdrl.render_run(copy_of(run_dir, tmp_path, overrides=["env"]))


@pytest.mark.parametrize(
    ("picture", "complaint"),
    [
        (np.zeros((4, 4, 3)), r"draw returned float64\[4, 4, 3\]; must be uint8"),
        (np.zeros((4, 4), np.uint8), r"draw returned uint8\[4, 4\]; must be uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"draw returned uint8\[0, 4, 3\]; must be uint8"),
    ],
)
def test_what_is_no_picture_is_refused(picture, complaint):
    env = jaxdrl.make("CartPole-v1")._replace(draw=lambda *_: picture)
    with pytest.raises(ConfigError, match=complaint):
        render.frame_maker(env, "", [moment(0)])


def moment(time):
    state = {"time": np.full(1, time)}
    flags = np.zeros(1, bool)
    return render.Moment(time, state, np.zeros(1), np.full(1, time), flags, flags)


def test_pictures_of_several_sizes_are_refused():
    env = jaxdrl.make("CartPole-v1")
    env = env._replace(draw=lambda s, p: np.zeros((4 + s["time"], 4, 3), np.uint8))
    make_frame = render.frame_maker(env, "", [moment(0), moment(1)])
    make_frame(0)
    with pytest.raises(
        ConfigError, match=r"draw returned = \(5, 4, 3\): all pictures must have one size"
    ):
        make_frame(1)


def test_ordinals():
    assert [render.ordinal(2**i) for i in range(1, 6)] == ["2nd", "4th", "8th", "16th", "32nd"]
