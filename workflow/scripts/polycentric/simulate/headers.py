"""DICOM headers of simulated scans. Every object says that it is simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    MRImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

from ..config.simulate import Scanner
from .encode import uid

NOTE = "SIMULATED by Polycentric: no patient was scanned"
INTERCEPT = -1024
PADDING = -2000


@dataclass(frozen=True)
class Subject:
    """Who was scanned, when, and the stem of all UIDs."""

    seed: int
    centre: str
    patient_id: str
    sex: str
    age_years: int
    contrast: bool
    year: int
    day: int  # of the year, 1 to 336 = 12 months of 28 days

    def uid(self, *names: str | int) -> str:
        return uid("polycentric.simulate", self.seed, self.centre, self.patient_id, *names)

    @property
    def date(self) -> str:
        month, day = divmod(self.day - 1, 28)
        return f"{self.year}{month + 1:02d}{day + 1:02d}"

    @property
    def time(self) -> str:
        return f"{8 + self.day % 10:02d}{self.day % 60:02d}00"


def decimal(value: float) -> str:
    """A decimal string of at most 16 characters without minus zero."""
    text = f"{round(float(value), 4) + 0.0:.4f}".rstrip("0").rstrip(".")
    if len(text) > 16:
        raise ValueError(f"{value} does not fit a decimal string")
    return text


def common(subject: Subject, scanner: Scanner, series: int, description: str) -> Dataset:
    """What all objects of a series share."""
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 100"
    d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = subject.date
    d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = subject.time
    d.AccessionNumber = ""
    d.Manufacturer = scanner.manufacturer
    d.ReferringPhysicianName = ""
    d.StudyDescription = "SIMULATED chest CT"
    d.SeriesDescription = f"{description} SIMULATED"
    d.ManufacturerModelName = scanner.model
    d.PatientName = f"SIMULATED^{subject.patient_id}"
    d.PatientID = subject.patient_id
    d.PatientBirthDate = f"{subject.year - subject.age_years - 1}1231"
    d.PatientSex = subject.sex
    d.PatientAge = f"{subject.age_years:03d}Y"
    d.SoftwareVersions = "polycentric-simulate-1"
    d.StudyInstanceUID = subject.uid("study")
    d.SeriesInstanceUID = subject.uid("series", series)
    d.StudyID = "1"
    d.SeriesNumber = series
    return d


def _image(d: Dataset, subject: Subject, series: int, key: str | int, pixels: np.ndarray) -> Dataset:
    d.SOPInstanceUID = subject.uid("instance", series, key)
    d.ImageComments = NOTE
    d.DerivationDescription = NOTE
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = "MONOCHROME2"
    d.Rows, d.Columns = pixels.shape
    d.BitsAllocated = 16
    signed = pixels.dtype == np.int16
    d.BitsStored = 16 if signed else 12
    d.HighBit = d.BitsStored - 1
    d.PixelRepresentation = int(signed)
    return d


def ct_image(
    subject: Subject,
    scanner: Scanner,
    *,
    series: int,
    key: str | int,
    description: str,
    number: int,
    acquisition: int,
    position: np.ndarray,
    orientation: tuple[float, ...],
    spacing: tuple[float, float],
    pixels: np.ndarray,
    image_type: str = "AXIAL",
) -> Dataset:
    """A CT image; `position` is the centre of the first pixel (mm), `spacing` the distance of rows, of columns."""
    d = _image(common(subject, scanner, series, description), subject, series, key, pixels)
    d.SOPClassUID = CTImageStorage
    d.ImageType = ["ORIGINAL", "PRIMARY", image_type]
    d.Modality = "CT"
    d.BodyPartExamined = "CHEST"
    d.PatientPosition = "HFS"
    d.PositionReferenceIndicator = ""
    d.FrameOfReferenceUID = subject.uid("frame")
    d.KVP = decimal(scanner.kvp)
    d.Exposure = round(scanner.exposure_mas)
    d.XRayTubeCurrent = round(scanner.exposure_mas * 2)
    d.ExposureTime = 500
    d.SliceThickness = decimal(scanner.thickness_mm or scanner.spacing_mm[2])
    d.GantryDetectorTilt = "0"
    d.ConvolutionKernel = scanner.kernel
    d.ReconstructionDiameter = decimal(scanner.spacing_mm[0] * scanner.matrix)
    if subject.contrast:
        d.ContrastBolusAgent = "Iodine 300"
        d.ContrastBolusRoute = "IV"
        d.ContrastBolusVolume = "80"
    d.AcquisitionNumber = acquisition
    d.InstanceNumber = number
    d.ImagePositionPatient = [decimal(p) for p in position]
    d.ImageOrientationPatient = [f"{o:.9g}" for o in orientation]
    d.SliceLocation = decimal(position[2])
    d.PixelSpacing = [decimal(s) for s in spacing]
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = str(INTERCEPT), "1", "HU"
    d.WindowCenter, d.WindowWidth = "40", "400"
    if pixels.dtype == np.int16:
        d.add_new("PixelPaddingValue", "SS", PADDING)
    return d


def mr_image(ct: Dataset, subject: Subject, scanner: Scanner, series: int, pixels: np.ndarray) -> Dataset:
    """An MR image on the grid of a CT image."""
    d = _image(common(subject, scanner, series, "T2 ax"), subject, series, int(ct.InstanceNumber), pixels)
    d.SOPClassUID = MRImageStorage
    d.Modality = "MR"
    d.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions, d.MRAcquisitionType = "SE", "SK", "", "2D"
    d.RepetitionTime, d.EchoTime, d.EchoTrainLength = "4000", "90", "9"
    d.PositionReferenceIndicator = ""
    for name in (
        "BodyPartExamined", "PatientPosition", "SliceThickness", "InstanceNumber", "FrameOfReferenceUID",
        "ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "PixelSpacing",
    ):  # fmt: skip
        setattr(d, name, ct[name].value)
    return d


def secondary_capture(subject: Subject, scanner: Scanner, series: int, pixels: np.ndarray) -> Dataset:
    d = _image(common(subject, scanner, series, "Exam Summary"), subject, series, 1, pixels)
    d.SOPClassUID = SecondaryCaptureImageStorage
    d.Modality = "CT"
    d.ImageType = ["DERIVED", "SECONDARY"]
    d.ConversionType = "WSD"
    d.InstanceNumber = 1
    return d


def structure_set(
    subject: Subject,
    scanner: Scanner,
    *,
    series: int,
    images: list[Dataset],
    rois: list[tuple[str, str, list[tuple[str, np.ndarray]]]],
) -> Dataset:
    """An RTSTRUCT; `rois` holds (name, type, [(SOP instance UID of the image, points (n, 3) mm)])."""
    d = common(subject, scanner, series, "Contours")
    d.SOPClassUID = RTStructureSetStorage
    d.SOPInstanceUID = subject.uid("instance", series, 1)
    d.Modality = "RTSTRUCT"
    d.InstanceNumber = 1
    d.OperatorsName = ""
    d.StructureSetLabel = "SIMULATED"
    d.StructureSetDescription = NOTE
    d.StructureSetDate, d.StructureSetTime = subject.date, subject.time
    frame, first = images[0].FrameOfReferenceUID, images[0]
    references = Sequence(
        _item(ReferencedSOPClassUID=i.SOPClassUID, ReferencedSOPInstanceUID=i.SOPInstanceUID) for i in images
    )
    in_series = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=references)
    in_study = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=Sequence([in_series]),
    )
    d.FrameOfReferenceUID = frame
    d.PositionReferenceIndicator = ""
    d.ReferencedFrameOfReferenceSequence = Sequence(
        [_item(FrameOfReferenceUID=frame, RTReferencedStudySequence=Sequence([in_study]))]
    )
    d.StructureSetROISequence = Sequence()
    d.ROIContourSequence = Sequence()
    d.RTROIObservationsSequence = Sequence()
    colours = ([255, 0, 0], [0, 128, 255], [0, 200, 120], [230, 160, 0], [200, 200, 200])
    for number, (name, kind, contours) in enumerate(rois, start=1):
        d.StructureSetROISequence.append(
            _item(ROINumber=number, ReferencedFrameOfReferenceUID=frame, ROIName=name, ROIGenerationAlgorithm="MANUAL")
        )
        contour = _item(ReferencedROINumber=number, ROIDisplayColor=colours[(number - 1) % 5])
        if contours:
            contour.ContourSequence = Sequence(_contour(*c) for c in contours)
        d.ROIContourSequence.append(contour)
        d.RTROIObservationsSequence.append(
            _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType=kind, ROIInterpreter="")
        )
    d.ApprovalStatus = "UNAPPROVED"
    return d


def _contour(instance: str, points: np.ndarray) -> Dataset:
    item = _item(
        ContourImageSequence=Sequence([_item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=instance)]),
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points),
    )
    # thousands of coordinates: as bytes, since pydicom would parse every one of them
    text = "\\".join(f"{round(v, 3) + 0.0:.3f}" for v in points.ravel().tolist()).encode()
    text += b" " * (len(text) % 2)
    tag = Tag("ContourData")
    item[tag] = RawDataElement(tag, "DS", len(text), text, 0, False, True)
    return item


def _item(**values: Any) -> Dataset:
    d = Dataset()
    for name, value in values.items():
        setattr(d, name, value)
    return d
