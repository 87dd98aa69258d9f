"""One slice of a synthetic image as a CT or MR Image object (PS3.3, A.3 and A.4). pydicom and numpy alone."""

from __future__ import annotations

import io
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from ..volumes import Geometry

NOTE = "SYNTHETIC: computed by a neural network, not acquired; not for diagnosis"
# fixed, so that the same image gives the same bytes
IMPLEMENTATION = "2.25.251033817482093750125740199463158215730"
_DECIMALS = 16
STEPS = 10_000  # whole numbers over the range of intensities that have no unit

Modality = Literal["CT", "MR"]


@dataclass(frozen=True)
class Instance:
    """A source slice: class and identifier, as they are to be written, and its position along the normal (mm)."""

    sop_class: str
    sop_instance: str
    position_mm: float


@dataclass(frozen=True)
class Subject:
    """Patient, study and source series as they are to be written."""

    patient_id: str
    patient_name: str
    study_uid: str
    frame_uid: str
    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    study_time: str = ""
    accession: str = ""
    study_id: str = ""
    patient_position: str = ""
    pseudonymous: bool = True
    series_uid: str = ""
    instances: tuple[Instance, ...] = field(default=(), repr=False)


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters, as exact as these allow (PS3.5, 6.2); no minus zero."""
    value = float(value) + 0.0
    for digits in range(17, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= _DECIMALS:
            return text
    raise ValueError(f"{value} does not fit a decimal string")


def slope(modality: Modality, limits: tuple[float, float], largest: float = 0.0) -> float:
    """What one step of the stored numbers means: 1 HU; of MR a share of the model's range, unless that is wide.

    Steps of MR are coarser where 16 bits would not hold an image that reaches beyond the range, to `largest`.
    """
    width = limits[1] - limits[0]
    if modality == "CT":
        return 1.0
    return float(decimal(max(1.0 if width >= STEPS else width / STEPS, largest / 32767)))


def stored(values: np.ndarray, step: float = 1.0) -> np.ndarray:
    """Values (HU) as whole numbers of steps, int16: half a HU is far below noise.

    Raises
    ------
    ValueError
        for values that are not finite or do not fit.
    """
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite")
    whole = np.rint(values.astype(np.float64) / step)
    if whole.min() < -32768 or whole.max() > 32767:
        raise ValueError(f"values of {values.min():g} to {values.max():g}, more than 16 bits hold")
    return whole.astype("<i2")


def series(
    geometry: Geometry,
    subject: Subject,
    *,
    series_uid: str,
    description: str,
    number: int,
    model: str,
    software: str,
    window: tuple[float, float],
    modality: Modality = "CT",
    step: float = 1.0,
) -> Dataset:
    """What all slices of the new series share; `model` names what made it, `software` is our version.

    Stored numbers times `step` are the values. What belongs to an acquisition stays empty; where the standard demands
    a sequence of MR it is that of research mode (RM).
    """
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 192"
    d.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"]
    d.SOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    d.SyntheticData = "YES"
    d.StudyDate, d.StudyTime, d.AccessionNumber = subject.study_date, subject.study_time, subject.accession
    d.Modality = modality
    d.Manufacturer, d.ManufacturerModelName, d.SoftwareVersions = "Polycentric", model[:64], software
    d.ReferringPhysicianName = ""
    d.SeriesDescription = description
    d.DerivationDescription = f"{NOTE}. Model: {model}"[:1024]
    d.PatientName, d.PatientID = subject.patient_name, subject.patient_id
    d.PatientBirthDate, d.PatientSex = subject.birth_date, subject.sex
    if subject.pseudonymous:
        d.PatientIdentityRemoved = "YES"
        d.DeidentificationMethod = "Polycentric: new headers under pseudonyms"
        d.LongitudinalTemporalInformationModified = "REMOVED"
    if modality == "CT":
        d.KVP = None
    else:
        d.ScanningSequence, d.SequenceVariant, d.ScanOptions, d.MRAcquisitionType = "RM", "NONE", None, None
        d.RepetitionTime = d.EchoTime = d.EchoTrainLength = None
    d.PatientPosition = subject.patient_position
    d.StudyInstanceUID, d.SeriesInstanceUID = subject.study_uid, series_uid
    d.Laterality = ""  # the body is not paired; required where the part is not stated
    d.StudyID, d.SeriesNumber, d.AcquisitionNumber = subject.study_id, number, None
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = subject.frame_uid, ""
    x, y, z = geometry.spacing
    direction = np.array(geometry.direction).reshape(3, 3)
    d.ImageOrientationPatient = [decimal(v) for v in (*direction[:, 0], *direction[:, 1])]
    d.PixelSpacing, d.SliceThickness, d.SpacingBetweenSlices = [decimal(y), decimal(x)], decimal(z), decimal(z)
    d.ImageComments = NOTE
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = geometry.size[1], geometry.size[0]
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 1
    d.BurnedInAnnotation, d.LossyImageCompression = "NO", "00"
    d.WindowCenter, d.WindowWidth = decimal(sum(window) / 2), decimal(window[1] - window[0])
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = "0", decimal(step), "HU" if modality == "CT" else "US"
    if subject.instances:
        item = Dataset()
        item.SeriesInstanceUID = subject.series_uid
        item.ReferencedInstanceSequence = Sequence(_reference(i) for i in subject.instances)
        d.ReferencedSeriesSequence = Sequence([item])
    return d


def slice_of(
    common: Dataset, geometry: Geometry, subject: Subject, k: int, pixels: np.ndarray, sop_instance: str
) -> Dataset:
    """Slice `k` of the grid as a data set of its own; `pixels` (y, x), int16, are as `stored`.

    Source images are the slices of the source that lie within half a slice distance of either series, the nearest
    one at least.
    """
    d = Dataset()
    d.update(common)
    direction = np.array(geometry.direction).reshape(3, 3)
    corner = np.array(geometry.origin) + k * geometry.spacing[2] * direction[:, 2]
    d.ImagePositionPatient = [decimal(v) for v in corner]
    d.InstanceNumber = k + 1
    d.SOPInstanceUID = sop_instance
    if subject.instances:
        here = float(np.cross(direction[:, 0], direction[:, 1]) @ corner)
        d.SourceImageSequence = Sequence(_source(i) for i in _near(subject.instances, here, geometry.spacing[2]))
    d.PixelData = np.ascontiguousarray(pixels, dtype="<i2").tobytes()
    d["PixelData"].VR = "OW"
    return d


def encode(dataset: Dataset) -> bytes:
    """The bytes of a file, explicit little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION, "POLYCENTRIC"
    dataset.file_meta = meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _near(instances: Many[Instance], here: float, spacing: float) -> list[Instance]:
    places = np.array([i.position_mm for i in instances])
    steps = np.diff(np.sort(places))
    reach = max(spacing, float(np.median(steps)) if steps.size else 0.0) / 2 + 1e-3
    away = np.abs(places - here)
    chosen = np.flatnonzero((away <= reach) | (np.arange(len(places)) == int(np.argmin(away))))
    return [instances[i] for i in chosen]


def _reference(instance: Instance) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.sop_class, instance.sop_instance
    return item


def _source(instance: Instance) -> Dataset:
    item = _reference(instance)
    item.SpatialLocationsPreserved = "YES"
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item.PurposeOfReferenceCodeSequence = Sequence([purpose])
    return item
