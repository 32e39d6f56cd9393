"""`experiments/redraw.py` and the pictures of experiments."""

import sys
from pathlib import Path

import pytest

from jaxdrl.analysis import figures
from jaxdrl.errors import ConfigError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

import redraw  # noqa: E402
from benchmarks import plot  # noqa: E402
from learning import notes  # noqa: E402


@pytest.fixture(scope="module")
def drawn():
    """Every picture that is redrawn, by its path, as it is laid out when it is saved."""
    found = {}

    def keep(figure, out):
        figure.draw_without_rendering()
        found[str(out.relative_to("there"))] = figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_figure", keep)
        redraw.redraw(redraw.Redraw(Path("there")))
    return found


def boxes_of_text(axes):
    return [text.get_window_extent() for text in axes.get_xticklabels() + axes.get_yticklabels()]


def test_every_picture_of_the_repository_is_redrawn(drawn):
    folders = ("docs/images", "experiments/results")
    committed = {str(p.relative_to(ROOT)) for f in folders for p in (ROOT / f).rglob("*.png")}
    assert set(drawn) == committed


def test_no_legend_covers_data_and_nothing_is_cut(drawn):
    for path, figure in drawn.items():
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert not any(box.overlaps(axes.get_tightbbox()) for axes in figure.axes), path
        assert all(axes.get_legend() is None for axes in figure.axes)
        whole = figure.bbox.padded(2)
        for axes in figure.axes:
            box = axes.get_tightbbox()
            assert whole.x0 <= box.x0 and box.x1 <= whole.x1, (path, axes.get_title())


def test_learning_curves_are_readable_on_a_page_and_say_what_is_special(drawn):
    figure = drawn["experiments/results/learning_curves.png"]
    width = 830  # pixels of a page on GitHub
    size = min(text.get_fontsize() for axes in figure.axes for text in axes.get_xticklabels())
    assert size / 72 / figure.get_figwidth() * width >= 9
    titles = {axes.get_title() for axes in figure.axes}
    assert "Pong-misc\n(greedy play never misses the ball)" in titles
    assert "MemoryChain-bsuite\n(published: a policy without memory)" in titles
    assert figure.get_supylabel() == "return of training episodes"
    assert all(len(note.remark) <= 36 for note in notes.NOTES.values())


def test_bars_name_the_hardware_and_what_whiskers_mean(drawn):
    figure = drawn["docs/images/throughput.png"]
    assert figure.get_suptitle() == "AMD EPYC, 2 cores"
    words = "training steps/s: median of the rounds, with least and greatest as whiskers"
    assert figure.get_supxlabel() == words
    assert figure.axes[0].get_title() == "CartPole-v1, 256 environments x 128 steps"
    bars = [
        (label.get_text(), bar.get_facecolor())
        for axes in figure.axes
        for label, bar in zip(axes.get_yticklabels(), axes.patches, strict=True)
    ]
    colours = {name: {colour for label, colour in bars if label == name} for name, _ in bars}
    assert all(len(found) == 1 for found in colours.values())  # the same in every panel
    assert colours["jaxdrl"] == colours["jaxdrl, 2 devices"]
    assert len({colour for _, colour in bars}) == 4


def test_names_of_bars_stay_in_their_own_panels(drawn):
    panels = drawn["docs/images/throughput.png"].axes
    for axes in panels:
        others = [other.get_window_extent() for other in panels if other is not axes]
        assert not any(box.overlaps(other) for box in boxes_of_text(axes) for other in others)


def test_a_picture_names_the_accelerator_that_was_measured(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, out: drawn.append(figure))
    plot.draw(redraw.stored("throughput_h100.json"), Path("x.png"))
    assert drawn[0].get_suptitle() == "NVIDIA H100 80GB HBM3"


def test_the_curves_of_pbt_leave_out_the_start_and_say_so(drawn):
    curves, _ = drawn["experiments/results/pbt.png"].axes
    assert "without the first 20%" in curves.get_xlabel()
    low, high = curves.get_ylim()
    ends = [line.get_ydata()[-1] for line in curves.lines]
    assert (max(ends) - min(ends)) / (high - low) > 0.1
    assert drawn["experiments/results/pbt.png"].get_suptitle().endswith("16 members, 8 seeds")


def test_cells_that_do_not_belong_to_the_table_are_refused(tmp_path):
    table = redraw.RESULTS / "host"
    text = (table / "learning_table.json").read_text()
    (tmp_path / "learning_table.json").write_text(text.replace("500.0", "499.0"))
    (tmp_path / "learning").symlink_to(table / "learning")
    with pytest.raises(ConfigError, match="is newer than the table"):
        redraw.cells_of(tmp_path)
