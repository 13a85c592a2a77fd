"""Bodies in three dimensions: flat faces and thick strokes, in groups that hide each other.

A model's axes: x ahead, y to its left, z up, metres, the origin on the ground below its middle.
Drawing goes group by group, the farthest first, and in a group in the order of building, so
whoever builds puts what lies on top last. A face is drawn only from its outer side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]  # RGB, 0 to 1
Point = tuple[float, float, float]

_DIRECTIONS = np.array(
    [
        np.array(way) / math.sqrt(sum(map(abs, way)))
        for way in itertools.product((-1, 0, 1), repeat=3)
        if sum(map(abs, way)) in (1, 3)
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What a builder made; P parts of V vertices in all."""

    vertices: NDArray[np.float64]  # [V, 3]
    spans: tuple[tuple[int, int], ...]  # the vertices of each part
    radii: tuple[float, ...]  # of strokes, metres; 0: a face
    normals: NDArray[np.float64]  # [P, 3], unit; strokes look at the light from the side
    centres: NDArray[np.float64]  # [P, 3]
    one_sided: NDArray[np.bool_]  # [P]
    albedo: NDArray[np.float64]  # [P, 3]
    gloss: NDArray[np.float64]  # [P, 1], 0 to 1: mirrors the sky
    glows: NDArray[np.bool_]  # [P]: shines by itself when the lamps are lit
    groups: NDArray[np.intp]  # [P]
    corners: NDArray[np.float64]  # [8, 3]: of the box around it, the four on the ground first
    extremes: NDArray[np.float64]  # [groups, 14, 3]: how far each group reaches, for its shadow
    headlights: tuple[Point, ...] = ()
    taillights: tuple[Point, ...] = ()


class Builder:
    """Collects the parts of one model."""

    def __init__(self) -> None:
        self.headlights: list[Point] = []
        self.taillights: list[Point] = []
        self._group = 0
        self._points: list[list[Point]] = []
        self._radii: list[float] = []
        self._inside: list[Point | None] = []  # of a face that is seen from outside only
        self._look: list[tuple[float, float, float, float, float]] = []
        self._groups: list[int] = []

    def begin(self) -> None:
        """What follows is a group of its own."""
        self._group += 1

    def face(
        self,
        points: Sequence[Point],
        colour: Colour,
        *,
        inside: Point | None = None,
        gloss: float = 0.0,
        glows: bool = False,
    ) -> None:
        """A flat polygon; with a point `inside` of its body, it is not seen from that side."""
        self._add(points, 0.0, colour, inside, (gloss, float(glows)))

    def stroke(self, points: Sequence[Point], radius: float, colour: Colour) -> None:
        """A round bar along `points`; of one point, a ball."""
        self._add(points, radius, colour, None, (0.0, 0.0))

    def wheel(self, centre: Point, radius: float, rim: Colour, inside: Point) -> None:
        """A disc across the y axis, seen from the side that is turned from `inside`."""
        x, y, z = centre
        out = math.copysign(0.012, y - inside[1])
        self.face(circle((x, y, z), radius), (0.05, 0.05, 0.055), inside=inside)
        self.face(circle((x, y + out, z), radius * 0.62), rim, inside=inside)
        self.face(circle((x, y + 2 * out, z), radius * 0.2), (0.1, 0.1, 0.1), inside=inside)

    def build(self) -> Model:
        """The model; nothing may be added after that."""
        sizes = [len(points) for points in self._points]
        ends = np.cumsum(sizes)
        vertices = np.array([point for points in self._points for point in points], float)
        sums = np.add.reduceat(vertices, (ends - sizes).tolist(), axis=0)
        centres = sums / np.array(sizes)[:, None]
        look = np.array(self._look)
        one_sided = np.array([inside is not None for inside in self._inside])
        return Model(
            vertices=vertices,
            spans=tuple(zip((ends - sizes).tolist(), ends.tolist(), strict=True)),
            radii=tuple(self._radii),
            normals=self._normals(centres),
            centres=centres,
            one_sided=one_sided,
            albedo=look[:, :3],
            gloss=look[:, 3:4],
            glows=look[:, 4] > 0,
            groups=np.array(self._groups),
            corners=_corners(vertices, max(self._radii)),
            extremes=self._extremes(vertices),
            headlights=tuple(self.headlights),
            taillights=tuple(self.taillights),
        )

    def _add(
        self,
        points: Sequence[Point],
        radius: float,
        colour: Colour,
        inside: Point | None,
        extra: tuple[float, float],
    ) -> None:
        self._points.append(list(points))
        self._radii.append(radius)
        self._inside.append(inside)
        self._look.append((*colour, *extra))
        self._groups.append(self._group)

    def _normals(self, centres: NDArray[np.float64]) -> NDArray[np.float64]:
        corners = np.array([_three(points) for points in self._points])  # [P, 3, 3]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        upright = np.array([0.0, 0.0, 0.6])
        normals = np.where(length > 1e-9, normals / np.maximum(length, 1e-9), upright)
        normals[np.array(self._radii) > 0] = upright
        core = [c if i is None else i for i, c in zip(self._inside, centres.tolist(), strict=True)]
        inwards = (normals * (centres - core)).sum(axis=1) < 0
        outwards: NDArray[np.float64] = np.where(inwards[:, None], -normals, normals)
        return outwards

    def _extremes(self, vertices: NDArray[np.float64]) -> NDArray[np.float64]:
        sizes = [len(points) for points in self._points]
        group_of = np.repeat(self._groups, sizes)
        radius_of = np.repeat(self._radii, sizes)
        found = []
        for group in np.unique(group_of):
            chosen = group_of == group
            body, radius = vertices[chosen], radius_of[chosen]
            farthest = (body @ _DIRECTIONS.T + radius[:, None]).argmax(axis=0)
            found.append(body[farthest] + _DIRECTIONS * radius[farthest][:, None])
        return np.array(found)


def circle(centre: Point, radius: float, corners: int = 12) -> list[Point]:
    """A polygon across the y axis."""
    x, y, z = centre
    turns = [2 * math.pi * corner / corners for corner in range(corners)]
    return [(x + radius * math.cos(turn), y, z + radius * math.sin(turn)) for turn in turns]


def _three(points: Sequence[Point]) -> list[Point]:
    """Three corners of a polygon that lie apart, or one point three times."""
    if len(points) < 3:
        return [points[0]] * 3
    return [points[0], points[len(points) // 3], points[2 * len(points) // 3]]


def _corners(vertices: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    (x1, y1, _), (x2, y2, z2) = vertices.min(axis=0) - radius, vertices.max(axis=0) + radius
    around = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    corners: NDArray[np.float64] = np.array([(x, y, z) for z in (0.0, z2) for x, y in around])
    return corners
