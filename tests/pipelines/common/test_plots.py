"""Plots are SVG that a browser can draw, with each point where its number says."""

import xml.etree.ElementTree as ElementTree

import pytest

from lightalign.pipelines.common.plots import draw_confusion, line_plot

SVG = "{http://www.w3.org/2000/svg}"


def drawing(html):
    end = html.index("</svg>") + len("</svg>")
    return ElementTree.fromstring(html[:end])


def points(svg):
    lines = [line.get("points").split() for line in svg.iter(f"{SVG}polyline")]
    return [[tuple(map(float, point.split(","))) for point in line] for line in lines]


def test_points_stand_where_their_numbers_say():
    html = line_plot({"a": {"x": [0, 5, 10], "y": [0, 50, 100]}}, x_label="x", y_label="y")
    ((first, middle, last),) = points(drawing(html))
    assert middle == (
        pytest.approx((first[0] + last[0]) / 2),
        pytest.approx((first[1] + last[1]) / 2),
    )
    assert first[0] < last[0]
    assert first[1] > last[1], "up is less in SVG"


def test_ranks_over_several_decades_stand_at_equal_steps():
    html = line_plot({"a": {"x": [1, 10, 100], "y": [1, 2, 3]}}, x_label="k", y_label="recall")
    ((first, ten, hundred),) = points(drawing(html))
    assert ten[0] - first[0] == pytest.approx(hundred[0] - ten[0], abs=0.2)
    labels = [text.text for text in drawing(html).iter(f"{SVG}text")]
    assert {"1", "10", "100"} <= set(labels)


def test_numbers_that_are_none_are_left_out_and_nothing_is_said_so():
    nan = float("nan")
    html = line_plot({"a": {"x": [1, 2, 3], "y": [1, nan, 3]}}, x_label="x", y_label="y")
    assert len(points(drawing(html))[0]) == 2
    assert "No numbers" in line_plot({"a": {"x": [1], "y": [nan]}}, x_label="x", y_label="y")


def test_one_point_and_a_flat_line_are_drawn():
    html = line_plot(
        {"a": {"x": [3], "y": [0]}, "b": {"x": [3], "y": [0]}}, x_label="x", y_label="y"
    )
    assert len(list(drawing(html).iter(f"{SVG}circle"))) == 2


def test_what_lies_between_the_ends_of_intervals_is_shaded_inside_the_plot():
    line = {"x": [1, 2], "y": [5, 6], "low": [4, 5], "high": [7, float("nan")]}
    (shade,) = drawing(line_plot({"a": line}, x_label="x", y_label="y")).iter(f"{SVG}polygon")
    points = [tuple(map(float, point.split(","))) for point in shade.get("points").split()]
    assert len(points) == 2  # of the first x alone: the other has no interval
    assert 0 < points[0][1] < points[1][1] < 400


def test_labels_cannot_break_out_of_the_page():
    html = line_plot({"<b>&": {"x": [1, 2], "y": [1, 2]}}, x_label="<i>", y_label='"')
    drawing(html)
    assert "<b>" not in html
    assert "<i>" not in html


def confusion(names, matrix):
    curve = {"title": "t", "x_label": "x", "y_label": "y", "names": names, "matrix": matrix}
    return ElementTree.fromstring(draw_confusion(curve))


def test_the_confusion_plot_has_a_cell_for_each_pair_of_classes_that_was_seen():
    picture = confusion(["a & <b>", "c"], [[3, 1], [0, 0]])
    assert [element.text for element in picture.iter(f"{SVG}title")] == [
        "a & <b> taken for a & <b>: 3 of 4 (75.0 %)",
        "a & <b> taken for c: 1 of 4 (25.0 %)",
    ]
    texts = [element.text for element in picture.iter(f"{SVG}text")]
    assert texts.count("a & <b>") == texts.count("c") == 2
    assert {"75", "25"} <= set(texts)


def test_a_plot_of_many_classes_stays_a_picture_of_one_screen():
    picture = confusion(
        [f"class {n}" for n in range(200)],
        [[int(row == column) for column in range(200)] for row in range(200)],
    )
    assert float(picture.get("width")) < 1200
