"""An analytic chest: every organ is a formula in millimetres, so that its truth does not depend on any grid.

Coordinates are LPS (x to the patient's left, y to the back, z to the head) from the middle of the scanned chest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import UserError

Array = np.ndarray
BODY_WIDTH_MM = 165.0
POINTS = 96


@dataclass(frozen=True)
class Waves:
    """A smooth random field as a sum of plane waves: mean 0 and variance 1 in the long run, then shifted and scaled."""

    vectors: Array  # (waves, 3), rad/mm
    phases: Array  # (waves,)
    shift: float = 0.0
    scale: float = 1.0

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        total: Array | float = 0.0
        for (kx, ky, kz), phase in zip(self.vectors, self.phases, strict=True):
            total = total + np.cos(kx * x + ky * y + kz * z + phase)
        return (total * math.sqrt(2 / len(self.phases)) - self.shift) * self.scale


def draw_waves(rng: np.random.Generator, count: int, shortest_mm: float, longest_mm: float) -> Waves:
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = rng.uniform(shortest_mm, longest_mm, size=(count, 1))
    return Waves(2 * np.pi * directions / lengths, rng.uniform(0, 2 * np.pi, count))


@dataclass(frozen=True)
class Tumour:
    """A lobed body around a slanted axis. Its section at height z is r(angle) = radius(z) (1 + sum of lobes).

    radius(z) = R sqrt(1 - (z / c)^2), so its volume is exactly 4/3 pi R^2 c (1 + sum(lobes^2) / 2).
    """

    centre: tuple[float, float, float]
    radius_mm: float
    half_length_mm: float
    slant: tuple[float, float]
    lobes: tuple[tuple[int, float, float], ...]  # order, amplitude, phase

    @property
    def volume_ml(self) -> float:
        return 4 / 3 * self.half_length_mm * self.area_mm2(self.centre[2]) / 1000

    def area_mm2(self, z: float) -> float:
        """Area of the section at height z."""
        height = (z - self.centre[2]) / self.half_length_mm
        lobed = 1 + sum(a * a for _, a, _ in self.lobes) / 2
        return math.pi * self.radius_mm**2 * lobed * max(0.0, 1 - height**2)

    def inside_mm(self, x: Array, y: Array, z: Array) -> Array:
        """About the distance to the surface within the plane of constant z, positive inside."""
        height = (z - self.centre[2]) / self.half_length_mm
        dx = x - self.centre[0] - self.slant[0] * (z - self.centre[2])
        dy = y - self.centre[1] - self.slant[1] * (z - self.centre[2])
        section = self.radius_mm * np.sqrt(np.clip(1 - height**2, 0, None)) * self.shape(np.arctan2(dy, dx))
        return np.where(np.abs(height) < 1, section - np.hypot(dx, dy), -1e3)

    def shape(self, angle: Array) -> Array:
        return 1 + sum(a * np.cos(k * angle - p) for k, a, p in self.lobes)

    def surface(self, enlarged: float = 1.0) -> tuple[Array, Array, Array]:
        """Points on the (enlarged) surface."""
        angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(-1, 1, 9))
        radius = enlarged * self.radius_mm * np.sqrt(1 - height**2) * self.shape(angle)
        dz = enlarged * self.half_length_mm * height
        x = self.centre[0] + self.slant[0] * dz + radius * np.cos(angle)
        y = self.centre[1] + self.slant[1] * dz + radius * np.sin(angle)
        return x, y, self.centre[2] + dz


@dataclass(frozen=True)
class Anatomy:
    """A chest of one patient; `scale` is its size against an adult's, `length_mm` the scanned length."""

    scale: float
    length_mm: float
    fat_mm: float
    lung_texture: Waves
    vessels: Array  # (n, 8): start, end (mm), radius at start and end
    tumour: Tumour
    tumour_texture: Waves

    def body_mm(self, x: Array, y: Array) -> Array:
        return _ellipse((x, y), (0, 0), (BODY_WIDTH_MM * self.scale, 0.68 * BODY_WIDTH_MM * self.scale))

    def lung_mm(self, side: int, x: Array, y: Array, z: Array) -> Array:
        """Distance to the surface of the left (side = 1) or right (-1) lung without heart and vessels."""
        s = self.scale
        q = ((x - side * 80 * s) / (58 * s)) ** 2 + (y / (82 * s)) ** 2 + (z / (0.475 * self.length_mm)) ** 4
        return (1 - np.sqrt(q)) * 58 * s

    def blood_mm(self, x: Array, y: Array, z: Array) -> Array:
        """Distance to the surface of heart and great vessels."""
        s = self.scale
        half = min(0.4 * self.length_mm, 85.0)
        low = -0.1 * self.length_mm
        heart = _ellipse((x, y, z), (20 * s, -24 * s, low), (54 * s, 46 * s, half))
        ascending = np.minimum(_ellipse((x, y), (-6 * s, -22 * s), (19 * s, 19 * s)), z - low)
        descending = _ellipse((x, y), (26 * s, 42 * s), (14 * s, 14 * s))
        return np.maximum(np.maximum(heart, ascending), descending)

    def spine_mm(self, x: Array, y: Array) -> Array:
        return _ellipse((x, y), (0, 72 * self.scale), (22 * self.scale, 20 * self.scale))

    def air_mm(self, side: int, x: Array, y: Array, z: Array) -> Array:
        """Distance to the surface of a lung with heart and great vessels taken out."""
        return np.minimum(self.lung_mm(side, x, y, z), -self.blood_mm(x, y, z))


def _ellipse(point: tuple[Array, ...], centre: tuple[float, ...], axes: tuple[float, ...]) -> Array:
    q = sum(((p - c) / a) ** 2 for p, c, a in zip(point, centre, axes, strict=True))
    return (1 - np.sqrt(q)) * min(axes)


def draw_anatomy(
    rng: np.random.Generator, *, field_mm: float, length_mm: float, volume_ml: float, heterogeneity_hu: float
) -> Anatomy:
    """Draw a chest that fits a field of view, with a tumour of exactly this volume and texture inside one lung."""
    scale = min(1.0, 0.46 * field_mm / BODY_WIDTH_MM) * rng.uniform(0.94, 1.0)
    chest = Anatomy(
        scale, length_mm, rng.uniform(6, 16), draw_waves(rng, 12, 15, 60), np.empty((0, 8)),
        Tumour((0, 0, 0), 1, 1, (0, 0), ()), Waves(np.zeros((1, 3)), np.zeros(1)),
    )  # fmt: skip
    tumour = _draw_tumour(rng, chest, volume_ml)
    texture = _normalised(rng, tumour, draw_waves(rng, 32, 18, 45), heterogeneity_hu)
    return Anatomy(scale, length_mm, chest.fat_mm, chest.lung_texture, _draw_vessels(rng, chest), tumour, texture)


def _draw_tumour(rng: np.random.Generator, chest: Anatomy, volume_ml: float) -> Tumour:
    lobes = tuple((k, rng.uniform(0.02, 0.24 / k), rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
    elongation = rng.uniform(0.8, 1.15)
    lobed = 1 + sum(a * a for _, a, _ in lobes) / 2
    radius = (volume_ml * 1000 / (4 / 3 * np.pi * elongation * lobed)) ** (1 / 3)
    slant = (rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25))
    best, margin = None, -np.inf
    for _ in range(400):
        side = 1 if rng.random() < 0.5 else -1
        place = rng.uniform(-0.75, 0.75, size=3)
        centre = (
            side * 80 * chest.scale + place[0] * 58 * chest.scale,
            place[1] * 82 * chest.scale,
            place[2] * 0.475 * chest.length_mm,
        )
        tumour = Tumour(centre, radius, elongation * radius, slant, lobes)
        inside = float(chest.air_mm(side, *tumour.surface(1.1)).min())
        if inside > margin:
            best, margin = tumour, inside
        if margin > 3:
            break
    if best is None or margin < 0:
        raise UserError(
            f"simulation: a tumour of {volume_ml:.0f} mL does not fit into a lung of the simulated chest. Lower the "
            f"end of simulation.volume_range_ml, or raise slices or spacing_mm of the centre's scanner."
        )
    return best


def _normalised(rng: np.random.Generator, tumour: Tumour, waves: Waves, sd: float) -> Waves:
    """Shift and scale a texture so that it has mean 0 and the given standard deviation within the tumour."""
    box = 1.6 * max(tumour.radius_mm, tumour.half_length_mm)
    x, y, z = (c + rng.uniform(-box, box, 20000) for c in tumour.centre)
    kept = tumour.inside_mm(x, y, z) > 0
    values = waves(x[kept], y[kept], z[kept])
    return Waves(waves.vectors, waves.phases, float(values.mean()), sd / float(values.std()))


def _draw_vessels(rng: np.random.Generator, chest: Anatomy) -> Array:
    """Straight tapering vessels from the hilum of each lung, each with a fork."""
    segments = []
    s = chest.scale
    for side in (-1, 1):
        for _ in range(7):
            start = np.array([side * 34 * s, rng.uniform(-10, 20) * s, rng.uniform(-0.08, 0.08) * chest.length_mm])
            end = np.array(
                [side * rng.uniform(70, 120) * s, rng.uniform(-55, 60) * s, rng.uniform(-0.36, 0.36) * chest.length_mm]
            )
            fork = start + 0.6 * (end - start)
            tip = end + rng.normal(0, 14 * s, 3)
            wide = rng.uniform(3.5, 6.0)
            segments.append([*start, *end, wide, 1.2])
            segments.append([*fork, *tip, 0.5 * wide, 1.0])
    return np.array(segments)


def tumour_polygon(tumour: Tumour, y0: float, z0: float, tangent: float = 0.0) -> Array | None:
    """Outline of the tumour in the plane z = z0 + (y - y0) tangent: (points, 3) mm, or None where it misses.

    In an axial plane (tangent 0) the points lie exactly on the surface; in a tilted one they are found by bisection
    along rays from the axis, which the lobes never make ambiguous at the tilts of a gantry.
    """
    cx, cy, cz = tumour.centre
    # where the plane meets the slanted axis
    height = (z0 - cz + (cy - y0) * tangent) / (1 - tumour.slant[1] * tangent)
    if abs(height) >= 0.98 * tumour.half_length_mm:
        return None
    x, y = cx + tumour.slant[0] * height, cy + tumour.slant[1] * height
    angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    low, high = np.zeros(POINTS), np.full(POINTS, 3 * tumour.radius_mm)
    for _ in range(40):
        middle = (low + high) / 2
        px, py = x + middle * np.cos(angle), y + middle * np.sin(angle)
        inside = tumour.inside_mm(px, py, z0 + (py - y0) * tangent) > 0
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    px, py = x + low * np.cos(angle), y + low * np.sin(angle)
    return np.stack([px, py, z0 + (py - y0) * tangent], axis=1)


def lung_polygon(chest: Anatomy, side: int, y0: float, z0: float, tangent: float = 0.0) -> Array | None:
    """Outline of a lung in a plane, seen from a point in its outer half: up to the first wall along each ray."""
    x, y = side * 95 * chest.scale, 10 * chest.scale
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None]
    steps = np.arange(1, 110 * chest.scale, 1.0)[None]
    px, py = x + steps * np.cos(angle), y + steps * np.sin(angle)
    inside = chest.air_mm(side, px, py, z0 + (py - y0) * tangent) > 0
    reach = np.where(inside.all(axis=1), steps.max(), steps[0, np.argmin(inside, axis=1)])
    if np.median(reach) < 8 or reach.min() < 2:
        return None
    px, py = x + reach * np.cos(angle[:, 0]), y + reach * np.sin(angle[:, 0])
    return np.stack([px, py, z0 + (py - y0) * tangent], axis=1)
