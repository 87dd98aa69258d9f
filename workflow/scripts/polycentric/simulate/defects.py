"""Defects, one function each: what real archives hold (the codes are those of curation)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from ..randomness import generator
from .encode import Planned
from .export import CT_SERIES, Export, add_images, file_name, store
from .headers import ct_image, mr_image, secondary_capture

EXTRA_SERIES = 5
JITTER_MM = 0.02


def inject(code: str, export: Export) -> None:
    """Put the defect into the patient's files. Defects of the grid itself were made with the grid."""
    if code in _INJECT:
        _INJECT[code](export)


def _datasets(export: Export) -> list[Dataset]:
    return [p.dataset for p in export.images if p.dataset is not None]


def _not_dicom(export: Export) -> None:
    folder = export.images[0].path.rsplit("/", 1)[0]
    export.extra.append(Planned(f"{folder}/Thumbs.db", content=b"\xd0\xcf\x11\xe0SIMULATED thumbnails" + bytes(480)))
    export.extra.append(Planned(f"{folder}/empty.dcm"))


def _no_meta(export: Export) -> None:
    for image in export.images:
        image.meta = False


def _truncated(export: Export) -> None:
    # pixels are the end of the file and most of it: the header stays whole
    image = export.images[len(export.images) // 2]
    image.kept = 0.8


def _missing_slice(export: Export) -> None:
    del export.images[len(export.images) // 3]


def _duplicate(export: Export) -> None:
    image = copy.copy(export.images[len(export.images) // 2])
    image.path += ".copy"
    export.extra.append(image)


def _no_position(export: Export) -> None:
    for d in _datasets(export):
        del d.ImagePositionPatient, d.ImageOrientationPatient, d.SliceLocation


def _jitter(export: Export) -> None:
    rng = generator(export.subject.seed, "simulate", export.subject.centre, export.subject.patient_id, "jitter")
    for d in _datasets(export):
        x, y, z = (float(v) for v in d.ImagePositionPatient)
        d.ImagePositionPatient = [f"{v:.4f}" for v in (x, y, z + rng.uniform(-JITTER_MM, JITTER_MM))]


def _coronal(export: Export, series: int, key: str, number: int) -> Planned:
    """A topogram: the mean over the chest's depth, upright."""
    grid, scanner = export.grid, export.scanner
    pixels = store(export.hu.mean(axis=1)[::-1], scanner)
    position = np.array([grid.x[0], 0.0, grid.z[-1]]) + grid.shift
    dataset = ct_image(
        export.subject,
        scanner,
        series=series,
        key=key,
        description="Topogram",
        number=number,
        acquisition=1,
        position=position,
        orientation=(1, 0, 0, 0, 0, -1),
        spacing=(scanner.spacing_mm[2], scanner.spacing_mm[0]),
        pixels=pixels,
        image_type="LOCALIZER",
    )
    name = file_name(scanner, export.subject.patient_id, series, number)
    return Planned(f"{export.folder(series, 'topogram')}/{name}", dataset, pixels)


def _localizer_in_series(export: Export) -> None:
    planned = _coronal(export, CT_SERIES, "localizer", 9999)
    planned.path = export.images[0].path.rsplit("/", 1)[0] + "/" + planned.path.rsplit("/", 1)[1]
    export.extra.append(planned)


def _localizers(export: Export) -> None:
    export.extra += [_coronal(export, EXTRA_SERIES, f"localizer {n}", n) for n in (1, 2)]


def _extra_ct(export: Export, slices: list[int], description: str) -> None:
    grid, scanner = export.grid, export.scanner
    for number, k in enumerate(slices, start=1):
        pixels = store(export.hu[k], scanner)
        dataset = ct_image(
            export.subject,
            scanner,
            series=EXTRA_SERIES,
            key=number,
            description=description,
            number=number,
            acquisition=1,
            position=grid.position(k),
            orientation=grid.orientation,
            spacing=(scanner.spacing_mm[1], scanner.spacing_mm[0]),
            pixels=pixels,
        )
        name = file_name(scanner, export.subject.patient_id, EXTRA_SERIES, number)
        export.extra.append(Planned(f"{export.folder(EXTRA_SERIES, 'monitoring')}/{name}", dataset, pixels))


def _too_few(export: Export) -> None:
    middle = len(export.grid.z) // 2
    _extra_ct(export, [middle, middle + 1, middle + 2], "PreMonitoring")


def _modality(export: Export) -> None:
    for image in list(export.images):
        assert image.dataset is not None
        assert image.pixels is not None
        pixels = np.clip(image.pixels.astype(np.int32) // 4, 0, 4095).astype(np.uint16)
        dataset = mr_image(image.dataset, export.subject, export.scanner, EXTRA_SERIES, pixels)
        name = f"IM-{EXTRA_SERIES:04d}-{int(dataset.InstanceNumber):04d}.dcm"
        export.extra.append(Planned(f"{export.folder(EXTRA_SERIES, 'T2')}/{name}", dataset, pixels))


def _secondary_capture(export: Export) -> None:
    pixels = store(export.hu[len(export.hu) // 2], export.scanner).astype(np.uint16)
    dataset = secondary_capture(export.subject, export.scanner, EXTRA_SERIES, pixels)
    name = file_name(export.scanner, export.subject.patient_id, EXTRA_SERIES, 1)
    export.extra.append(Planned(f"{export.folder(EXTRA_SERIES, 'Summary')}/{name}", dataset, pixels))


def _second_acquisition(export: Export) -> None:
    rng = generator(export.subject.seed, "simulate", export.subject.centre, export.subject.patient_id, "second")
    noise = rng.standard_normal(export.hu.shape, dtype=np.float32) * np.float32(export.scanner.noise_hu / 2 + 1)
    add_images(export, acquisition=2, noise=noise)


def _no_rescale(export: Export) -> None:
    for d in _datasets(export):
        del d.RescaleSlope, d.RescaleIntercept, d.RescaleType


def _padding(export: Export) -> None:
    padded = export.scanner.model_copy(update={"padding": True})
    for k, image in enumerate(export.images):
        image.pixels = store(export.hu[k], padded)
        d = image.dataset
        assert d is not None
        d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 15, 1


def _no_kernel(export: Export) -> None:
    for d in _datasets(export):
        del d.ConvolutionKernel


def _contrast_conflict(export: Export) -> None:
    for d in _datasets(export):
        if "ContrastBolusAgent" in d:
            del d.ContrastBolusAgent, d.ContrastBolusRoute, d.ContrastBolusVolume
        else:
            d.ContrastBolusAgent = "Iodine 300"


def _empty_patient(export: Export) -> None:
    for d in _datasets(export):
        d.PatientID = ""


def _two_patients(export: Export) -> None:
    for d in _datasets(export)[::2]:
        d.PatientID = f"{export.subject.patient_id}X"


def _study_times(export: Export) -> None:
    for number, d in enumerate(_datasets(export)):
        minutes, seconds = divmod(number, 60)
        d.StudyTime = f"14{minutes % 60:02d}{seconds:02d}"


def _structure(export: Export) -> Dataset:
    assert export.structure is not None
    assert export.structure.dataset is not None
    return export.structure.dataset


def _no_image(export: Export) -> None:
    d, other = _structure(export), export.subject
    reference = d.ReferencedFrameOfReferenceSequence[0]
    d.FrameOfReferenceUID = reference.FrameOfReferenceUID = other.uid("frame", "elsewhere")
    series = reference.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    series.SeriesInstanceUID = other.uid("series", "elsewhere")
    for roi in d.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = d.FrameOfReferenceUID
    _stale(export)


def _stale(export: Export) -> None:
    d = _structure(export)
    series = d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    images = [*series.ContourImageSequence]
    images += [i for r in d.ROIContourSequence for c in r.get("ContourSequence", []) for i in c.ContourImageSequence]
    for image in images:
        image.ReferencedSOPInstanceUID = export.subject.uid("stale", image.ReferencedSOPInstanceUID)


def _no_tumour(export: Export) -> None:
    d = _structure(export)
    for sequence in (d.StructureSetROISequence, d.ROIContourSequence, d.RTROIObservationsSequence):
        del sequence[0]


def _empty_roi(export: Export) -> None:
    d = _structure(export)
    for name in ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence"):
        item = copy.deepcopy(getattr(d, name)[0])
        for key in ("ROINumber", "ReferencedROINumber", "ObservationNumber"):
            if key in item:
                setattr(item, key, 90)
        if "ROIName" in item:
            item.ROIName = "GTV-2"
        if "ContourSequence" in item:
            del item.ContourSequence
        getattr(d, name).append(item)


def _twice(export: Export) -> None:
    for roi in _structure(export).ROIContourSequence:
        roi.ContourSequence = Sequence(copy.deepcopy(c) for c in roi.ContourSequence for _ in range(2))


_INJECT: dict[str, Callable[[Export], None]] = {
    "FILE_NOT_DICOM": _not_dicom,
    "FILE_NO_META": _no_meta,
    "FILE_TRUNCATED": _truncated,
    "MODALITY_WRONG": _modality,
    "LOCALIZER_IN_SERIES": _localizer_in_series,
    "SERIES_ALL_LOCALIZER": _localizers,
    "TOO_FEW_SLICES": _too_few,
    "SECONDARY_CAPTURE": _secondary_capture,
    "GEOM_NO_POSITION": _no_position,
    "GEOM_MISSING_SLICE": _missing_slice,
    "GEOM_JITTER": _jitter,
    "DUP_EXACT": _duplicate,
    "SERIES_MULTI_ACQ": _second_acquisition,
    "RESCALE_MISSING": _no_rescale,
    "HU_IMPLAUSIBLE": _padding,
    "KERNEL_MISSING": _no_kernel,
    "CONTRAST_CONFLICT": _contrast_conflict,
    "PATIENT_ID_EMPTY": _empty_patient,
    "PATIENT_ID_CONFLICT": _two_patients,
    "STUDYTIME_VARIES": _study_times,
    "RT_NO_IMAGE": _no_image,
    "RT_SOPREF_STALE": _stale,
    "RT_ROI_MISSING": _no_tumour,
    "RT_EMPTY_ROI": _empty_roi,
    "RT_DUP_CONTOUR": _twice,
}
