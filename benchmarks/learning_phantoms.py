"""The simulator of the learning benchmark. FROZEN: committed before anything was tuned, and not to be changed since.

Computed tomography of the chest in which everything is known: patients with and without contrast agent, vessels from
the size of a voxel to the heart, organs that take up the agent a little, and tissues that look like enhanced blood and
are not (marrow, calcified nodes) or like blood without it (nodes, oesophagus). Every contrast scan has a twin without
contrast: same anatomy and kernel, other noise. And magnetic resonance of two sequences, of which neither alone tells
the HU: dark bone and dark fluid look alike in the first, dark bone and dark blood in the second.

Arrays are (z, y, x), HU; millimetres. Everything depends on the seed and the patient's number alone, through numpy's
generators, and not on the library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter

Array = np.ndarray

SEEDS = (1, 2, 3)
SHAPE = (32, 96, 96)
MR_SHAPE = (12, 96, 96)
SPACING_MM = 3.0
TRAINING = 40  # patients of each domain
TEST = 24  # contrast patients with their twins, and as many others without contrast

ENHANCEMENT_HU = (150.0, 50.0)  # mean and standard deviation over patients
ENHANCEMENT_LIMITS_HU = (40.0, 300.0)
KERNELS = {
    # in voxels: blur of the image, grain of the noise, share of low frequencies taken out of it; its size in HU
    "smooth": {"blur": 0.8, "grain": 0.8, "sharpened": 0.0, "noise_hu": (20.0, 26.0)},
    "sharp": {"blur": 0.45, "grain": 0.45, "sharpened": 0.6, "noise_hu": (28.0, 38.0)},
}

AIR, FAT, MUSCLE, LUNG, BONE, STILL, ORGAN, VESSEL = range(8)
TISSUES = {"air": AIR, "fat": FAT, "muscle": MUSCLE, "lung": LUNG, "bone": BONE, "unenhanced organs": STILL,
           "enhanced organs": ORGAN, "vessels": VESSEL}  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """A simulated chest.

    native
        what a noiseless scan without contrast shows, HU.
    gain
        share of the blood's enhancement that a voxel takes up, after the kernel's blur.
    vessel
        share of a voxel that is blood, after the kernel's blur.
    radius_mm
        radius of the vessel that a voxel belongs to; 0 elsewhere. tissue: number of `TISSUES`.
    """

    number: int
    kernel: str
    noise_hu: float
    enhancement_hu: float
    native: Array
    gain: Array
    vessel: Array
    radius_mm: Array
    tissue: Array
    seed: tuple[int, ...] = field(repr=False)

    def scan(self, *, contrast: bool) -> Array:
        """A scan with noise, int16 HU; the noise of the two scans is independent."""
        image = self.native + (self.enhancement_hu * self.gain if contrast else 0)
        noise = _noise(np.random.default_rng([*self.seed, 1 + contrast]), self.native.shape, KERNELS[self.kernel])
        return np.rint(np.clip(image + self.noise_hu * noise, -1024, 3071)).astype(np.int16)


def patient(seed: int, number: int) -> Patient:
    """The patient of this number; even numbers are scanned with the smooth kernel, odd ones with the sharp one."""
    entropy = (20_240_611, seed, number)
    rng = np.random.default_rng([*entropy, 0])
    kernel = ("smooth", "sharp")[number % 2]
    canvas = _Canvas(SHAPE)
    _chest(rng, canvas)
    low, high = ENHANCEMENT_LIMITS_HU
    enhancement = float(np.clip(rng.normal(*ENHANCEMENT_HU), low, high))
    settings = KERNELS[kernel]
    blurred = [gaussian_filter(a, settings["blur"], mode="nearest") for a in (canvas.hu, canvas.gain, canvas.vessel)]
    return Patient(
        number, kernel, float(rng.uniform(*settings["noise_hu"])), enhancement,
        *blurred, canvas.radius_mm, canvas.tissue, entropy,
    )  # fmt: skip


def training_numbers(contrast: bool) -> range:
    """Patients of a domain's training part: other people with and without contrast."""
    return range(0, TRAINING) if contrast else range(1000, 1000 + TRAINING)


def test_numbers(contrast: bool) -> range:
    """Unseen patients: those whose contrast scan is translated (their twins are the truth), and others without."""
    return range(2000, 2000 + TEST) if contrast else range(3000, 3000 + TEST)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], kernel: dict) -> Array:
    """Correlated noise of standard deviation 1."""
    sigma = (0.3, kernel["grain"], kernel["grain"])
    noise = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    if kernel["sharpened"]:
        noise -= kernel["sharpened"] * gaussian_filter(noise, (0, 1.5, 1.5), mode="wrap")
    return noise / noise.std()


class _Canvas:
    """Tissues painted over each other; `share` is the part of each voxel that the new one covers."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        axes = [(np.arange(n) - (n - 1) / 2) * SPACING_MM for n in shape]
        self.z, self.y, self.x = np.meshgrid(*axes, indexing="ij", sparse=True)
        self.shape = shape
        self.hu = np.full(shape, -1000.0)
        self.gain = np.zeros(shape)
        self.vessel = np.zeros(shape)
        self.radius_mm = np.zeros(shape)
        self.tissue = np.full(shape, AIR, dtype=np.uint8)

    def paint(
        self, inside_mm: Array, tissue: int, hu: float | Array, gain: float = 0.0, radius_mm: float = 0.0
    ) -> None:
        """Paint where the distance to the surface is positive; about half a voxel of soft edge."""
        share = np.broadcast_to(np.clip(0.5 + inside_mm / SPACING_MM, 0, 1), self.shape)
        self.hu += (hu - self.hu) * share
        self.gain += (gain - self.gain) * share
        self.vessel += (float(tissue == VESSEL) - self.vessel) * share
        covered = share > 0.5
        self.tissue[covered] = tissue
        self.radius_mm[covered] = radius_mm

    def ellipsoid(self, centre: tuple[float, ...], axes: tuple[float, ...]) -> Array:
        q = sum(((p - c) / a) ** 2 for p, c, a in zip((self.x, self.y, self.z), centre, axes, strict=True))
        return (1 - np.sqrt(q)) * min(axes)

    def cylinder(self, centre: tuple[float, float], axes: tuple[float, float]) -> Array:
        q = ((self.x - centre[0]) / axes[0]) ** 2 + ((self.y - centre[1]) / axes[1]) ** 2
        return (1 - np.sqrt(q)) * min(axes)

    def tube(self, start: Array, end: Array, first_mm: float, last_mm: float) -> Array:
        along = end - start
        place = (self.x - start[0]) * along[0] + (self.y - start[1]) * along[1] + (self.z - start[2]) * along[2]
        t = np.clip(place / (along @ along), 0, 1)
        square = sum((p - s - t * a) ** 2 for p, s, a in zip((self.x, self.y, self.z), start, along, strict=True))
        return first_mm + (last_mm - first_mm) * t - np.sqrt(square)


def _texture(rng: np.random.Generator, shape: tuple[int, ...], grain: float, sd: float) -> Array:
    field = gaussian_filter(rng.standard_normal(shape), grain, mode="wrap")
    return field / field.std() * sd


def _chest(rng: np.random.Generator, c: _Canvas) -> None:
    s = rng.uniform(0.9, 1.06)
    dx, dy = rng.uniform(-4, 4, 2)
    wide, deep = 128 * s, 96 * s
    fat_mm, wall_mm = rng.uniform(7, 18), rng.uniform(13, 19)
    blood, muscle = rng.normal(42, 4), rng.normal(55, 4)

    def soft(hu: float, sd: float = 5.0) -> Array:
        return hu + _texture(rng, c.shape, 2.0, sd)

    c.paint(c.cylinder((dx, dy), (wide, deep)), FAT, soft(rng.normal(-102, 5), 8))
    c.paint(c.cylinder((dx, dy), (wide - fat_mm, deep - fat_mm)), MUSCLE, soft(muscle, 6), gain=0.03)
    inner = c.cylinder((dx, dy), (wide - fat_mm - wall_mm, deep - fat_mm - wall_mm))
    c.paint(inner, FAT, soft(rng.normal(-88, 6), 10))
    # ribs: slanted rings within the wall
    ring = c.cylinder((dx, dy), (wide - fat_mm - wall_mm / 2, deep - fat_mm - wall_mm / 2))
    marrow = rng.uniform(120, 240)
    for k in range(5):
        height = -56 + 28 * k + rng.uniform(-4, 4) - 0.4 * (c.y - dy)
        rib = 4.5 - np.hypot(ring, c.z - height)
        c.paint(rib, BONE, rng.uniform(380, 620))
        c.paint(rib - 2.5, BONE, marrow)
    # lungs
    lung = rng.normal(-850, 25)
    lungs = []
    for side in (-1, 1):
        centre = (dx + side * 62 * s, dy - 4, rng.uniform(-6, 10))
        found = np.minimum(c.ellipsoid(centre, (44 * s, (deep - fat_mm - wall_mm) * 0.93, 130)), inner - 1)
        c.paint(found, LUNG, lung + _texture(rng, c.shape, 1.5, 22))
        lungs.append(found)
    # liver below the right lung, spleen or stomach below the left one
    dome = -rng.uniform(22, 36)
    liver = np.minimum(c.ellipsoid((dx - 52 * s, dy, dome - 40), (58 * s, 68 * s, 46)), inner - 1)
    c.paint(liver, ORGAN, soft(rng.normal(56, 6)), gain=rng.uniform(0.2, 0.4))
    below = np.minimum(c.ellipsoid((dx + 62 * s, dy + 18, dome - 42), (34 * s, 42 * s, 38)), inner - 1)
    if rng.random() < 0.5:
        c.paint(below, ORGAN, soft(rng.normal(48, 4)), gain=rng.uniform(0.3, 0.5))
    else:
        c.paint(below, STILL, soft(rng.normal(25, 8), 12))
    # spine
    spine = c.cylinder((dx, dy + 58 * s), (20 * s, 16 * s))
    disc = np.abs((c.z + rng.uniform(0, 30)) % 30 - 15) - 4  # below 0 in a disc
    c.paint(spine, BONE, rng.uniform(420, 560))
    c.paint(spine - 3, BONE, soft(rng.uniform(150, 260), 25))
    c.paint(np.minimum(spine, -disc), STILL, soft(85))
    c.paint(c.cylinder((dx, dy + 79 * s), (8 * s, 7 * s)), STILL, 30.0)
    for side in (-1, 1):
        c.paint(c.ellipsoid((dx + side * 15 * s, dy + 82 * s, 0), (6, 12, 200)), BONE, rng.uniform(250, 400))
    _mediastinum(rng, c, s, dx, dy, blood, soft)
    _small_vessels(rng, c, s, dx, dy, blood, lungs, liver)
    _lookalikes(rng, c, s, dx, dy, soft)


def _mediastinum(
    rng: np.random.Generator, c: _Canvas, s: float, dx: float, dy: float, blood: float, soft: Callable[..., Array]
) -> None:
    def vessel(inside: Array, radius: float) -> None:
        c.paint(inside, VESSEL, blood, gain=rng.uniform(0.92, 1.08), radius_mm=radius)

    heart_z = rng.uniform(-34, -18)
    heart = (dx + 12 * s, dy - 22 * s, heart_z)
    c.paint(c.ellipsoid(heart, (46 * s, 38 * s, 40)), ORGAN, soft(rng.normal(46, 4)), gain=rng.uniform(0.25, 0.45))
    for side, size in ((1, rng.uniform(15, 22)), (-1, rng.uniform(15, 22))):
        place = (heart[0] + side * 19 * s, heart[1] + rng.uniform(-6, 6), heart_z + rng.uniform(-4, 8))
        vessel(c.ellipsoid(place, (size * 0.85, size, size * 1.2)), size)
    radius = rng.uniform(11, 16) * s
    up = np.array([dx - 4 * s, dy - 18 * s, heart_z + 10])
    vessel(c.tube(up, up + np.array([rng.uniform(-6, 2), rng.uniform(-4, 6), 120]), radius, radius * 0.9), radius)
    radius = rng.uniform(8, 13) * s
    x = dx + rng.uniform(18, 28) * s
    foot, head = np.array([x, dy + 34 * s, -80.0]), np.array([x + rng.uniform(-6, 6), dy + 34 * s, 80.0])
    vessel(c.tube(foot, head, radius, radius), radius)
    radius = rng.uniform(6, 10) * s
    cava = np.array([dx - 28 * s, dy - 14 * s, heart_z + 15])
    vessel(c.tube(cava, cava + np.array([0, 0, 110]), radius, radius), radius)
    # pulmonary trunk with its two arteries
    trunk = np.array([dx + 12 * s, dy - 14 * s, heart_z + 42 + rng.uniform(-5, 5)])
    for side in (-1, 1):
        radius = rng.uniform(7, 11) * s
        end = trunk + np.array([side * rng.uniform(34, 44) * s, rng.uniform(8, 18), rng.uniform(-8, 6)])
        vessel(c.tube(trunk, end, radius, radius * 0.7), radius * 0.85)


def _small_vessels(
    rng: np.random.Generator, c: _Canvas, s: float, dx: float, dy: float, blood: float, lungs: list[Array], liver: Array
) -> None:
    """Branches in the lungs, in the liver, and in the chest wall: radius of 1.5 to 6 mm."""

    def branch(start: Array, end: Array, first: float, last: float, within: Array) -> None:
        middle = (start + end) / 2 + rng.normal(0, 6, 3)
        gain = rng.uniform(0.88, 1.12)
        for a, b, r0, r1 in ((start, middle, first, (first + last) / 2), (middle, end, (first + last) / 2, last)):
            c.paint(np.minimum(c.tube(a, b, r0, r1), within), VESSEL, blood, gain=gain, radius_mm=(r0 + r1) / 2)

    for side, within in zip((-1, 1), lungs, strict=True):
        for _ in range(9):
            start = np.array([dx + side * 30 * s, dy + rng.uniform(-10, 14), rng.uniform(-25, 25)])
            end = np.array([dx + side * rng.uniform(60, 98) * s, dy + rng.uniform(-58, 58) * s, rng.uniform(-46, 46)])
            first = rng.uniform(2.5, 6.0)
            branch(start, end, first, max(1.5, 0.4 * first), within + 2)
    for _ in range(5):
        start = np.array([dx - 34 * s, dy + rng.uniform(-15, 15), -46.0])
        end = np.array([dx - rng.uniform(60, 95) * s, dy + rng.uniform(-45, 45), rng.uniform(-46, -25)])
        branch(start, end, rng.uniform(2.5, 5.0), 1.8, liver)
    for side in (-1, 1):
        for _ in range(3):
            angle = rng.uniform(-0.9, 0.9)
            x, y = dx + side * 104 * s * np.cos(angle), dy + 78 * s * np.sin(angle)
            lean = rng.normal(0, 8, 2)
            start, end = np.array([x - lean[0], y - lean[1], -60.0]), np.array([x + lean[0], y + lean[1], 60.0])
            branch(start, end, rng.uniform(2.0, 4.5), rng.uniform(2.0, 4.5), c.cylinder((dx, dy), (124 * s, 92 * s)))


def _lookalikes(
    rng: np.random.Generator, c: _Canvas, s: float, dx: float, dy: float, soft: Callable[..., Array]
) -> None:
    """Unenhanced structures as dense as native or as enhanced blood, in both domains."""
    c.paint(c.cylinder((dx + 4 * s, dy + 32 * s), (8, 7)), STILL, soft(36))  # oesophagus
    c.paint(c.cylinder((dx - 2 * s, dy + 10 * s), (9, 8)), AIR, -990.0)  # trachea
    for number in range(int(rng.integers(5, 10))):
        centre = (dx + rng.uniform(-34, 34) * s, dy + rng.uniform(-48, 40) * s, rng.uniform(-30, 46))
        axes = tuple(rng.uniform(3.5, 8.0, 3))
        free = c.ellipsoid(centre, axes)
        free = np.where(c.vessel > 0.01, -SPACING_MM, free)  # nodes lie beside vessels
        if number < 2 and rng.random() < 0.6:
            c.paint(free, BONE, rng.uniform(140, 320))
        else:
            c.paint(free, STILL, rng.normal(40, 6))


# magnetic resonance -------------------------------------------------------------------------------------------------

MR_KINDS = {
    # HU, first sequence, second sequence; every pair of brightness is another tissue
    "bone": (350.0, -700.0, -700.0),
    "fluid": (5.0, -700.0, 600.0),
    "fat": (-100.0, 600.0, 600.0),
    "blood": (90.0, 600.0, -700.0),
}
MR_BODY = (45.0, 0.0, -200.0)
MR_NOISE = 60.0
CT_NOISE_HU = 20.0


@dataclass(frozen=True)
class Slab:
    """A simulated trunk: HU and both sequences with noise (int16), the HU without it, and which voxels are inserts."""

    ct: Array
    first: Array
    second: Array
    truth: Array
    inserts: Array


def slab(seed: int, number: int) -> Slab:
    """Rods of bone, round cysts, lobes of fat and small bleedings anywhere in a body with spine and subcutaneous fat.

    Air -1000 HU and -1000 in both sequences (arbitrary units, between -1000 and 1000). A bias field of 10 % lies over
    the sequences.
    """
    rng = np.random.default_rng([20_240_612, seed, number])
    canvases = [_Canvas(MR_SHAPE) for _ in range(3)]

    def paint(inside: Array, values: tuple[float, float, float]) -> None:
        for canvas, value in zip(canvases, values, strict=True):
            canvas.paint(inside, STILL, value)

    c = canvases[0]
    for canvas in canvases[1:]:
        canvas.hu[:] = -1000.0
    s = rng.uniform(0.9, 1.05)
    dx, dy = rng.uniform(-4, 4, 2)
    fat_mm = rng.uniform(9, 20)
    paint(c.cylinder((dx, dy), (128 * s, 96 * s)), MR_KINDS["fat"])
    body = c.cylinder((dx, dy), (128 * s - fat_mm, 96 * s - fat_mm))
    paint(body, MR_BODY)
    paint(c.cylinder((dx, dy + 60 * s), (20 * s, 17 * s)), MR_KINDS["bone"])
    inserts = np.zeros(MR_SHAPE, dtype=bool)
    sizes = {
        "bone": lambda: (rng.uniform(5, 8), rng.uniform(5, 8), rng.uniform(40, 90)),
        "fluid": lambda: (rng.uniform(9, 20),) * 3,
        "fat": lambda: (rng.uniform(12, 26), rng.uniform(6, 12), rng.uniform(8, 16)),
        "blood": lambda: (rng.uniform(5, 10),) * 3,
    }
    for kind, count in (("fat", 4), ("fluid", 5), ("bone", 6), ("blood", 5)):
        for _ in range(count):
            place = rng.uniform(-1, 1, 2)
            centre = (dx + place[0] * 88 * s, dy + place[1] * 55 * s - 8, rng.uniform(-18, 18))
            inside = np.minimum(c.ellipsoid(centre, sizes[kind]()), body - 6)
            paint(inside, MR_KINDS[kind])
            inserts |= np.broadcast_to(inside > SPACING_MM / 2, MR_SHAPE)
    truth, first, second = (gaussian_filter(canvas.hu, (0.3, 0.5, 0.5), mode="nearest") for canvas in canvases)
    truth = truth + np.where(truth > -500, _texture(rng, MR_SHAPE, 2.0, 6), 0)
    ct = truth + CT_NOISE_HU * _noise(rng, MR_SHAPE, KERNELS["smooth"])
    images = []
    for image in (first, second):
        bias = 1 + _texture(rng, MR_SHAPE, 20.0, 0.05)
        image = (image + 1000) * bias - 1000 + np.where(image > -950, 1, 0.3) * rng.normal(0, MR_NOISE, MR_SHAPE)
        images.append(np.rint(np.clip(image, -1000, 1000)).astype(np.int16))
    return Slab(np.rint(ct).astype(np.int16), images[0], images[1], truth, inserts)
