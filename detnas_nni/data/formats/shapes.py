"""Upright boxes around the shapes that labelling tools draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detnas_nni.data.formats.dataset import Corners


def turned_box(corners: Corners, degrees: float) -> Corners:
    """Around a box that is rotated about its centre, clockwise in the image."""
    x1, y1, x2, y2 = corners
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = abs(x2 - x1), abs(y2 - y1)
    across, down = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return x - across, y - down, x + across, y + down


def box_turned_at_its_corner(x: float, y: float, width: float, height: float, degrees: float) -> Corners:
    """Around a box that is rotated about its upper left corner, as in Label Studio."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = [
        (a * cos - b * sin, a * sin + b * cos) for a, b in ((0, 0), (width, 0), (0, height), (width, height))
    ]
    return (
        x + min(a for a, _ in points),
        y + min(b for _, b in points),
        x + max(a for a, _ in points),
        y + max(b for _, b in points),
    )


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Corners:
    """Around an ellipse given by its centre and half axes, rotated about its centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    across, down = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return x - across, y - down, x + across, y + down


def circle(middle: Sequence[float], edge: Sequence[float]) -> Corners:
    """Around a circle given by its centre and a point on its edge."""
    radius = math.hypot(edge[0] - middle[0], edge[1] - middle[1])
    return middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius
