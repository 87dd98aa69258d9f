"""Objects that are not copied: what their pixels may show, no tag can take away."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from ..errors import ScanError

_STORAGE = "1.2.840.10008.5.1.4.1.1."
# images of devices that draw no text into their pixels
_IMAGES = {
    _STORAGE + name
    for name in ("2", "2.1", "2.2", "4", "4.1", "4.4", "20", "128", "128.1", "130")  # CT, MR, NM, PET, enhanced too
}
# images that often hold text: only where their maker says that they do not
_PROJECTIONS = {
    _STORAGE + name
    for name in ("1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "12.1", "12.2", "13.1.1", "13.1.3")
}
_STRUCTURES = {_STORAGE + name for name in ("481.3", "66.4", "66.7")}  # RTSTRUCT, SEG, label map SEG
_PICTURES = ("SECONDARY CAPTURE", "SCREEN SAVE", "SCREENSHOT", "SCREEN", "CAPTURE", "DOSE_INFO", "PROTOCOL", "REPORT")
_OVERLAYS = range(0x6000, 0x6020, 2)


def check(dataset: Dataset) -> None:
    """Refuse an object whose pixels may name the patient, or of a kind that nobody has looked at.

    Raises
    ------
    ScanError
        PHI_BURNED_IN or PHI_OBJECT_UNKNOWN.
    """
    kind = str(dataset.get("SOPClassUID", ""))
    burned = str(dataset.get("BurnedInAnnotation", "") or "").strip().upper()
    if burned == "YES":
        raise ScanError("PHI_BURNED_IN", "the object says that text is burned into its pixels")
    if kind in _STRUCTURES:
        return
    if kind.startswith((_STORAGE + "7", _STORAGE + "6.", _STORAGE + "3.")):
        raise ScanError("PHI_BURNED_IN", "a secondary capture or an ultrasound image, which often hold text")
    if kind in _PROJECTIONS and burned != "NO":
        raise ScanError("PHI_BURNED_IN", "a projection whose maker does not say that no text is burned into it")
    if kind not in _IMAGES | _PROJECTIONS:
        raise ScanError("PHI_OBJECT_UNKNOWN", "an object of a kind that is not copied")
    image_type = " ".join(str(v).upper() for v in _list(dataset.get("ImageType")))
    if any(word in image_type for word in _PICTURES) or dataset.get("ConversionType"):
        raise ScanError("PHI_BURNED_IN", "a picture of a screen by its image type")
    if _integer(dataset.get("SamplesPerPixel")) > 1 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        raise ScanError("PHI_BURNED_IN", "a colour picture, which scanners make of screens")
    for group in _OVERLAYS:
        if Tag(group, 0x0100) in dataset and Tag(group, 0x3000) not in dataset:
            raise ScanError("PHI_BURNED_IN", "an overlay is drawn into unused bits of the pixels")


def trim(dataset: Dataset) -> int:
    """Cut what stands behind the last pixel of uncompressed data; return the number of bytes.

    Nothing shows such bytes, so anything may stand there.
    """
    item = dataset.get_item("PixelData") if "PixelData" in dataset else None
    value = None if item is None else item.value
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    if not isinstance(value, bytes) or (syntax is not None and syntax.is_encapsulated):
        return 0
    frames, samples = max(_integer(dataset.get("NumberOfFrames")), 1), max(_integer(dataset.get("SamplesPerPixel")), 1)
    bits = _integer(dataset.get("Rows")) * _integer(dataset.get("Columns")) * frames * samples
    bits *= _integer(dataset.get("BitsAllocated"))
    if str(dataset.get("PhotometricInterpretation", "")) == "YBR_FULL_422":
        bits = bits * 2 // 3
    wanted = (bits + 7) // 8
    if bits == 0 or len(value) <= wanted:
        return 0
    kept = value[:wanted] + b"\0" * (wanted % 2)
    if kept == value:
        return 0
    element = dataset["PixelData"]
    element.value = kept
    return len(value) - wanted


def _list(value: object) -> list[object]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) or hasattr(value, "_list") else [value]


def _integer(value: object) -> int:
    try:
        return int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return 0
