"""Plots are SVG that a browser can draw, with each point where its number says."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from lightalign.pipelines.plots import line_plot, matrix_plot

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
    ((one, ten, hundred),) = points(drawing(html))
    assert ten[0] - one[0] == pytest.approx(hundred[0] - ten[0], abs=0.2)
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


def test_labels_cannot_break_out_of_the_page():
    html = line_plot({"<b>&": {"x": [1, 2], "y": [1, 2]}}, x_label="<i>", y_label='"')
    drawing(html)
    assert "<b>" not in html
    assert "<i>" not in html


def test_a_square_is_as_dark_as_its_share():
    shares = np.array([[0.75, 0.25], [0.0, 1.0]])
    svg = drawing(matrix_plot(shares, ["cat", "dog"], label="of its images"))
    filled = [square for square in svg.iter(f"{SVG}rect") if square.get("fill") != "none"]
    assert [float(square.get("fill-opacity")) for square in filled] == [0.75, 0.25, 1.0]
    assert filled[1].find(f"{SVG}title").text == "cat as dog: 25.0 % of its images"


def test_two_hundred_classes_fit_the_same_width():
    svg = drawing(matrix_plot(np.eye(200), [f"class {n}" for n in range(200)], label=""))
    assert float(svg.get("viewBox").split()[2]) < 900
