"""Volumes: arrays with their geometry in the patient, stored as uncompressed NIfTI.

Arrays are indexed (z, y, x), as SimpleITK gives them; spacing, size and origin are (x, y, z) in mm in DICOM's LPS
system; direction is the row-major 3 x 3 matrix of SimpleITK.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import atomic

if TYPE_CHECKING:
    import SimpleITK as sitk

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Geometry:
    """Grid of a volume: size in voxels, spacing and origin in mm (x, y, z), direction cosines row-major."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.spacing)) / 1000.0

    def columns(self) -> dict[str, Any]:
        """The geometry as manifest columns, float64: NIfTI's own header holds float32 only."""
        names = {}
        for axis, n, s, o in zip("xyz", self.size, self.spacing, self.origin, strict=True):
            names |= {f"size_{axis}": n, f"spacing_{axis}_mm": float(s), f"origin_{axis}_mm": float(o)}
        return names | {"direction": " ".join(repr(float(d)) for d in self.direction)}

    @staticmethod
    def from_columns(row: Any) -> Geometry:
        return Geometry(
            tuple(int(row[f"size_{a}"]) for a in "xyz"),
            tuple(float(row[f"spacing_{a}_mm"]) for a in "xyz"),
            tuple(float(row[f"origin_{a}_mm"]) for a in "xyz"),
            tuple(float(d) for d in str(row["direction"]).split()),
        )


@dataclass(frozen=True)
class Rigid:
    """A rigid motion in the patient: p' = matrix p + offset, in mm, LPS; the matrix is a rotation, row-major."""

    matrix: tuple[float, ...] = IDENTITY
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @staticmethod
    def from_text(text: Any) -> Rigid | None:
        """The motion in the column `moved` of a view's manifest; None where there is none."""
        if not isinstance(text, str) or not text:
            return None
        values = tuple(float(v) for v in text.split())
        return Rigid(values[:9], values[9:])

    def to_text(self) -> str:
        return " ".join(repr(float(v)) for v in (*self.matrix, *self.offset))

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Where points (n, 3) go."""
        return points @ np.array(self.matrix).reshape(3, 3).T + np.array(self.offset)

    def inverse(self) -> Rigid:
        matrix = np.array(self.matrix).reshape(3, 3).T
        return _rigid(matrix, -matrix @ np.array(self.offset))

    def then(self, other: Rigid) -> Rigid:
        """This motion, followed by another one."""
        matrix = np.array(other.matrix).reshape(3, 3)
        return _rigid(matrix @ np.array(self.matrix).reshape(3, 3), other.apply(np.array([self.offset]))[0])

    def angle_deg(self) -> float:
        """Angle of the rotation about its axis."""
        return float(np.degrees(np.arccos(np.clip((np.trace(np.array(self.matrix).reshape(3, 3)) - 1) / 2, -1, 1))))

    def place(self, geometry: Geometry) -> Geometry:
        """The grid of an image that makes this motion; its voxels keep their values."""
        direction = np.array(self.matrix).reshape(3, 3) @ np.array(geometry.direction).reshape(3, 3)
        origin = self.apply(np.array([geometry.origin]))[0]
        return replace(geometry, origin=tuple(map(float, origin)), direction=tuple(map(float, direction.ravel())))


def _rigid(matrix: np.ndarray, offset: np.ndarray) -> Rigid:
    return Rigid(tuple(map(float, matrix.ravel())), tuple(map(float, offset)))


@dataclass(frozen=True)
class Volume:
    """An image or mask: `array` (z, y, x) and its `geometry`."""

    array: np.ndarray
    geometry: Geometry

    def with_array(self, array: np.ndarray) -> Volume:
        if array.shape != self.array.shape:
            raise ValueError(f"array of shape {array.shape} does not fit a grid of shape {self.array.shape}")
        return replace(self, array=array)

    def to_sitk(self) -> sitk.Image:
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(self.array)
        image.SetSpacing(self.geometry.spacing)
        image.SetOrigin(self.geometry.origin)
        image.SetDirection(self.geometry.direction)
        return image

    @staticmethod
    def from_sitk(image: sitk.Image) -> Volume:
        import SimpleITK as sitk

        geometry = Geometry(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
        return Volume(sitk.GetArrayFromImage(image), geometry)


def write(volume: Volume, path: str | Path) -> None:
    """Write uncompressed NIfTI atomically; gzip would cost 20 times the time."""
    with writing(path, volume.geometry, volume.array.dtype) as put:
        put(volume.array)


@contextlib.contextmanager
def writing(path: str | Path, geometry: Geometry, dtype: np.dtype | type) -> Iterator[Callable[[np.ndarray], None]]:
    """Write uncompressed NIfTI atomically, some planes (z, y, x) at a time: what is yielded takes them in order.

    Nothing is written if the block fails.

    Raises
    ------
    ValueError
        for values that are not finite, planes of another grid or type, or not as many as the geometry has.
    """
    import SimpleITK as sitk

    columns, rows, planes = geometry.size
    done = 0
    with atomic(path) as temporary:
        # the header is SimpleITK's, of an image of one voxel; the values are written as they lie in memory, since their
        # copy into an ITK image costs as much as reading a scan
        sitk.WriteImage(Volume(np.zeros((1, 1, 1), dtype), geometry).to_sitk(), str(temporary), useCompression=False)
        with temporary.open("r+b") as stream:
            stream.seek(42)  # NIfTI-1: dim[1..3] at byte 42, data from byte 352 on
            stream.write(struct.pack("=3h", *geometry.size))
            stream.seek(352)
            stream.truncate()

            def put(array: np.ndarray) -> None:
                nonlocal done
                if array.shape[1:] != (rows, columns) or array.dtype != dtype:
                    raise ValueError(f"planes of shape {array.shape} and {array.dtype} do not fit {geometry.size}")
                if array.dtype.kind == "f" and not np.isfinite(array).all():
                    raise ValueError("the volume has values that are not finite, which NIfTI does not keep reliably")
                np.ascontiguousarray(array).tofile(stream)
                done += len(array)

            yield put
            if done != planes:
                raise ValueError(f"{done} planes were written, the grid has {planes}")


def read(path: str | Path, row: Any | None = None) -> Volume:
    """Read a volume; `row`, its manifest row, restores the float64 geometry that NIfTI rounds to float32."""
    import SimpleITK as sitk

    volume = Volume.from_sitk(sitk.ReadImage(str(path)))
    if row is None:
        return volume
    geometry = Geometry.from_columns(row)
    if geometry.size != volume.geometry.size:
        raise ValueError(f"{Path(path).name}: size {volume.geometry.size} is not the manifest's {geometry.size}")
    return Volume(volume.array, geometry)


def moved(volume: Volume, row: Any) -> Volume:
    """A volume of a scan, such as its mask, where the view of this manifest row shows it: moved if the view was."""
    motion = Rigid.from_text(row.get("moved"))
    return volume if motion is None else Volume(volume.array, motion.place(volume.geometry))


def upright(volume: Volume) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The array (z, y, x) turned by quarters and flipped to the body's axes, and its spacing (x, y, z) in mm.

    Along x the patient's left comes last, along y the back, along z the head, as near as the scan's own axes allow;
    nothing is resampled.
    """
    direction = np.array(volume.geometry.direction).reshape(3, 3)
    weight, owner = np.abs(direction), [0, 0, 0]  # owner[body axis] = image axis, both x, y, z
    for _ in range(3):
        body, own = np.unravel_index(int(weight.argmax()), (3, 3))
        owner[body] = int(own)
        weight[body, :] = weight[:, own] = -1
    array = volume.array.transpose([2 - owner[2], 2 - owner[1], 2 - owner[0]])
    for body in range(3):
        if direction[body, owner[body]] < 0:
            array = np.flip(array, 2 - body)
    return array, tuple(volume.geometry.spacing[owner[body]] for body in range(3))


def resample(volume: Volume, geometry: Geometry, *, interpolation: str = "linear", fill: float = 0.0) -> Volume:
    """Map a volume onto another grid. `interpolation` is nearest, linear or bspline."""
    import SimpleITK as sitk

    kind = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "bspline": sitk.sitkBSpline}[interpolation]
    image = sitk.Resample(
        volume.to_sitk(), geometry.size, sitk.Transform(3, sitk.sitkIdentity), kind,
        geometry.origin, geometry.spacing, geometry.direction, fill,
    )  # fmt: skip
    return Volume(sitk.GetArrayFromImage(image), geometry)
