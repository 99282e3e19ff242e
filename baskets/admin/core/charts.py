"""Plots as inline SVG, drawn on the server by leather: plain attributes, without script, style and address. A style sheet colours them."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, tostring

import leather
from django.utils.safestring import SafeString
from leather import theme

from baskets.admin.core import display

WIDTH, HEIGHT = 440, 150
MAX_TICKS = 6
# The policy of the pages permits no inline style, so the library writes neutral values, and `admin.css` sets the colours.
theme.background_color = "none"
theme.margin = 0.012
theme.label_color = theme.tick_color = theme.zero_color = "currentColor"
theme.tick_font_family = "inherit"
theme.tick_font_size = 11
theme.tick_font_char_height = 11
theme.tick_font_char_width = 7
SERIES_COLOR = "currentColor"


def columns(values: Sequence[int], labels: Sequence[str], *, alternative: str) -> SafeString:
    """Draw a column for each value.

    :param labels: of the columns, as many as values; a part of them is shown.
    :param alternative: what the plot shows, in words.
    """
    names = [str(index) for index in range(len(values))]
    chart = leather.Chart()
    chart.add_columns(list(zip(names, values, strict=True)), fill_color=SERIES_COLOR)
    ticks = names[:: _tick_step(len(names))]
    chart.add_x_axis(ticks=ticks, tick_formatter=lambda name, _index, _count: labels[int(name)])
    return _render(chart, max(values), alternative)


def line(values: Sequence[int], labels: Sequence[str], *, alternative: str) -> SafeString:
    """Draw a line through the values. The parameters are those of `columns`."""
    chart = leather.Chart()
    chart.add_line(list(enumerate(values)), stroke_color=SERIES_COLOR)
    chart.add_x_scale(0, len(values) - 1)
    ticks = list(range(0, len(values), _tick_step(len(values))))
    chart.add_x_axis(ticks=ticks, tick_formatter=lambda index, _index, _count: labels[index])
    return _render(chart, max(values), alternative)


def _tick_step(number: int) -> int:
    return -(-number // MAX_TICKS)


def _render(chart: leather.Chart, highest: int, alternative: str) -> SafeString:
    top = _round_up(highest)
    chart.add_y_scale(0, top)
    chart.add_y_axis(
        ticks=sorted({0, top // 2, top} if top % 2 == 0 else {0, top}), tick_formatter=lambda value, *_: display.count(int(value))
    )
    attributes = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": alternative, "class": "plot"}
    root = Element("svg", attributes)
    root.append(chart.to_svg_group(WIDTH, HEIGHT))
    return SafeString(tostring(root, encoding="unicode"))


def _round_up(number: int) -> int:
    """Round up to 1, 2 or 5 times a power of ten.

    >>> [_round_up(number) for number in (0, 1, 3, 17, 400)]
    [1, 1, 5, 20, 500]
    """
    power = 1
    while power * 10 < number:
        power *= 10
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= number)
