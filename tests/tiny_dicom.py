"""Small DICOM series and structure sets for tests; a test changes the data sets before it saves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

CT, RTSTRUCT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.481.3"
PATIENT = "HOSP-4711-SECRET"


def uid(*parts: object) -> str:
    return "1.2.826.0.1.3680043.8.498." + ".".join(str(abs(hash_of(p)) % 10**9) for p in parts)


def hash_of(part: object) -> int:
    import zlib

    return zlib.crc32(str(part).encode())


def empty(sop_class: str, instance: str, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), UID(instance)
    meta.TransferSyntaxUID = UID(syntax)
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = sop_class, instance
    return data


def pixels(number: int, rows: int = 24, columns: int = 32) -> np.ndarray:
    """Stored values that differ from slice to slice."""
    return np.random.default_rng(number).integers(0, 2000, (rows, columns)).astype(np.uint16)


def series(
    slices: int = 12,
    *,
    name: str = "a",
    patient: str = PATIENT,
    spacing: float = 3.0,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    origin: Sequence[float] = (-50.5, -40.25, 100.0),
    pixel_spacing: tuple[float, float] = (0.8, 0.8),
    rows: int = 24,
    columns: int = 32,
    syntax: str = ExplicitVRLittleEndian,
) -> list[FileDataset]:
    """Axial CT slices in ascending order; `pixel_spacing` as DICOM has it, rows first."""
    normal = np.cross(orientation[:3], orientation[3:])
    result = []
    for number in range(slices):
        data = empty(CT, uid(name, "slice", number), syntax)
        data.PatientID, data.PatientName, data.Modality = patient, "Doe^Jane", "CT"
        data.StudyInstanceUID, data.SeriesInstanceUID = uid(patient, "study"), uid(name, "series")
        data.FrameOfReferenceUID = uid(name, "frame")
        data.StudyDate, data.StudyTime, data.ImageType = "20200101", "120000", ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.SeriesDescription, data.Manufacturer, data.ManufacturerModelName = "Thorax", "ACME", "One"
        data.SeriesNumber, data.InstanceNumber, data.AcquisitionNumber = 1, number + 1, 1
        data.ConvolutionKernel, data.KVP, data.SliceThickness = "B30f", 120, spacing
        data.ImagePositionPatient = [float(v) for v in np.asarray(origin) + number * spacing * normal]
        data.ImageOrientationPatient = [float(v) for v in orientation]
        data.PixelSpacing = list(pixel_spacing)
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.Rows, data.Columns, data.SamplesPerPixel = rows, columns, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.PixelData = pixels(number, rows, columns).tobytes()
        result.append(data)
    return result


def circle(x: float, y: float, z: float, radius: float, points: int = 40) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle), np.full(points, z)], axis=1)


def structure_set(
    images: Sequence[Dataset],
    regions: dict[str, Sequence[np.ndarray]],
    *,
    name: str = "rt",
    kind: str = "CLOSED_PLANAR",
    stale: bool = False,
) -> FileDataset:
    """An RTSTRUCT on `images`, with contours in mm; `stale` makes all references to slices point nowhere."""
    first = images[0]
    data = empty(RTSTRUCT, uid(name, "structures"))
    data.PatientID, data.PatientName, data.Modality = first.PatientID, "Doe^Jane", "RTSTRUCT"
    data.StudyInstanceUID, data.SeriesInstanceUID = first.StudyInstanceUID, uid(name, "rt series")
    data.StructureSetLabel, data.StructureSetDate, data.StructureSetTime = name, "20200102", "080000"
    instances = [uid("gone", i) if stale else i.SOPInstanceUID for i in images]

    def reference(instance: str) -> Dataset:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, instance
        return item

    one = Dataset()
    one.SeriesInstanceUID = first.SeriesInstanceUID
    one.ContourImageSequence = [reference(i) for i in instances]
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [one]
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    data.ReferencedFrameOfReferenceSequence = [frame]
    data.StructureSetROISequence, data.ROIContourSequence = [], []
    for number, (region, contours) in enumerate(regions.items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, region, first.FrameOfReferenceUID
        data.StructureSetROISequence.append(roi)
        drawn = Dataset()
        drawn.ReferencedROINumber = number
        if len(contours):
            drawn.ContourSequence = []
            for points in contours:
                contour = Dataset()
                contour.ContourGeometricType = kind
                contour.NumberOfContourPoints = len(points)
                contour.ContourData = [float(v) for v in np.round(points, 6).ravel()]
                contour.ContourImageSequence = [reference(instances[0])]
                drawn.ContourSequence.append(contour)
        data.ROIContourSequence.append(drawn)
    return data


def save(folder: Path, *groups: Sequence[Dataset] | Dataset, name: Callable[[int], str] = "{:04d}.dcm".format) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = [d for group in groups for d in ([group] if isinstance(group, Dataset) else group)]
    for number, one in enumerate(data):
        one.save_as(folder / name(number), enforce_file_format=bool(getattr(one, "preamble", None)))
    return folder
