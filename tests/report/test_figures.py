"""What is drawn is what the journal says: read back from matplotlib's axes."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from detnas_nni.architecture import Architecture
from detnas_nni.config import Constraint
from detnas_nni.report import figures, style
from detnas_nni.report.architecture_drawing import Column, draw_architectures, stages
from detnas_nni.report.data import best_so_far
from detnas_nni.report.searches import published_nets
from search_spaces import layout

COUNTS = (1, 24, 1000)
# Every seventh has failed, and the third of every seven was stopped early, but for the first ones.
FAILED, STOPPED = set(range(13, 1000, 7)), set(range(10, 1000, 7))


@pytest.fixture(autouse=True)
def styled():
    with style.look():
        yield


@pytest.fixture(params=COUNTS)
def search(request, searched):
    return searched(request.param, failed=FAILED, stopped=STOPPED, population=min(50, request.param))[1]


def collections(axes):
    return {found.get_label(): found for found in axes.collections}


def test_progress_draws_each_result_once_and_the_best_so_far(search):
    axes = figures.progress(search).axes[0]
    (line,) = axes.lines
    assert line.get_label() == "best so far"
    assert np.array_equal(line.get_xdata(), np.arange(len(search.evaluations)))
    assert np.array_equal(line.get_ydata(), best_so_far(search.evaluations))
    drawn = collections(axes)
    results = np.concatenate([drawn[o].get_offsets() for o in {e.origin for e in search.finished}])
    assert {tuple(point) for point in results.tolist()} == {(e.id, e.fitness) for e in search.finished}
    for name, evaluations in (("failed", search.failed), ("stopped early", search.stopped)):
        places = drawn[name].get_offsets()[:, 0].tolist() if name in drawn else []
        assert places == [e.id for e in evaluations]
    assert f"{max(e.fitness for e in search.finished):.4f}" in [text.get_text() for text in axes.texts]


def test_every_second_generation_is_shaded_where_it_lies(searched):
    _, search = searched(24, population=6)
    axes = figures.progress(search).axes[0]
    assert [(p.get_x(), p.get_x() + p.get_width()) for p in axes.patches] == [(5.5, 11.5), (17.5, 23.5)]
    assert [t.get_text() for t in axes.texts if t.get_text().startswith("gen")] == [
        f"gen {i}" for i in range(4)
    ]


def test_a_search_without_a_result_shows_its_failures_and_no_line(searched):
    _, search = searched(5, failed=set(range(5)))
    axes = figures.progress(search).axes[0]
    assert len(axes.lines) == 0
    assert list(collections(axes)) == ["failed"]


def test_cost_draws_each_result_over_both_costs_and_a_front_that_nothing_beats(search):
    figure = figures.cost(search, [], Constraint())
    for axes, key in zip(figure.axes, ("macs", "params"), strict=False):
        points = {tuple(point) for point in collections(axes)["a candidate"].get_offsets().tolist()}
        assert points == {(e.cost[key] / 1e6, e.fitness) for e in search.finished}
        (front,) = axes.lines
        for x, y in zip(*front.get_data(), strict=True):
            assert (x, y) in points
            assert not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)
        assert max(front.get_ydata()) == max(e.fitness for e in search.finished)


def test_cost_marks_published_nets_and_the_limit_by_their_cost_alone(searched):
    _, search = searched(6, config={"space": {"name": "small"}})
    nets = published_nets("small", 224)
    macs, params, *_ = figures.cost(search, nets, Constraint(max_macs=300_000_000)).axes
    lines = {line.get_xdata()[0]: line for line in macs.lines if line.get_label() != "Pareto front"}
    assert set(lines) == {net.cost.macs / 1e6 for net in nets} | {300.0}
    assert all(line.get_ydata() == [0, 1] for line in lines.values())  # from foot to top: no AP
    letters = {text.get_text(): text.get_position()[0] for text in params.texts}
    assert letters == {chr(65 + i): net.cost.params / 1e6 for i, net in enumerate(nets)}
    low, high = macs.get_xlim()
    assert all(low < x < high for x in lines)


def test_letters_of_published_nets_do_not_touch(searched):
    _, search = searched(6, config={"space": {"name": "small"}})
    figure = figures.cost(search, published_nets("small", 224), Constraint())
    figure.draw_without_rendering()
    for axes in figure.axes[:2]:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) > 1 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_heat_maps_have_the_shares_of_the_best_and_of_all(search):
    top = search.best(10)
    figure = figures.choices(layout("tiny"), search, top)
    for axes, evaluations in zip(figure.axes, (top, search.evaluations), strict=False):
        shares = np.asarray(axes.collections[0].get_array()).reshape(4, -1)
        ops = np.array([e.ops for e in evaluations])
        assert np.allclose(shares, [(ops == op).mean(0) for op in range(4)])
        assert axes.texts[0].get_text() == f"{100 * shares[0, 0]:.0f}"


def test_seconds_are_drawn_by_how_an_evaluation_ended(search):
    axes = figures.seconds(search).axes[0]
    drawn = collections(axes)
    for name, evaluations in (
        ("finished", search.finished),
        ("failed", search.failed),
        ("stopped early", search.stopped),
    ):
        points = drawn[name].get_offsets().tolist() if name in drawn else []
        assert points == [[e.id, e.seconds] for e in evaluations]
    assert axes.get_ylim()[1] > max(e.seconds for e in search.evaluations)


@pytest.mark.parametrize("space", ["tiny", "small", "large", "3.8g"])
def test_an_architecture_is_drawn_block_by_block_with_its_stages(space):
    ops = tuple(block % 4 for block in range(len(layout(space))))
    columns = [Column("one", ("AP 0.5",), Architecture(space, ops))]
    columns += [Column(net.name, (), net.architecture) for net in published_nets(space, 224)]
    axes = draw_architectures(columns).axes[0]
    boxes = [patch for patch in axes.patches if hasattr(patch, "get_boxstyle")]
    per_net = 1 + len(ops)  # the stem, too
    assert len(boxes) == len(columns) * per_net
    for index, column in enumerate(columns):
        drawn = [to_hex(box.get_facecolor()) for box in boxes[index * per_net + 1 : (index + 1) * per_net]]
        assert drawn == [style.OPS[op] for op in column.architecture.ops]
    texts = [text.get_text() for text in axes.texts]
    assert sum(
        text.endswith("×3 ↓2") or text.endswith("×5 ↓2") or text.endswith("×7 ↓2") for text in texts
    ) == (5 * len(columns))
    for stage in stages(space):
        assert f"{stage.channels} channels, stride {stage.stride}" in texts


def test_stages_are_those_of_the_paper():
    assert [(s.first, s.end, s.channels, s.stride) for s in stages("small")] == [
        (0, 4, 64, 4),
        (4, 8, 160, 8),
        (8, 16, 320, 16),
        (16, 20, 640, 32),
    ]


def test_no_text_of_an_architecture_leaves_its_column():
    columns = [Column("found, rank 1", ("AP 0.4016",), Architecture("small", (3,) * 20))]
    columns += [Column(net.name, ("published",), net.architecture) for net in published_nets("small", 224)]
    figure = draw_architectures(columns)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    rows = {}
    for text in axes.texts:
        box = text.get_window_extent()
        rows.setdefault(round(text.get_position()[1], 3), []).append(box)
    for boxes in rows.values():
        boxes.sort(key=lambda box: box.x0)
        assert all(a.x1 < b.x0 for a, b in pairwise(boxes))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for boxes in rows.values() for box in boxes)
