"""Pixels: every encoding gives the values of its uncompressed twin, bad decoders cost one scan, values are examined."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from polycentric import volumes
from polycentric.convert import decoder, direct, pixels, plausible
from polycentric.convert.pixels import decode, pixels_sha256, rescale
from polycentric.convert.stack import Plane, Stack
from polycentric.errors import ScanError
from polycentric.volumes import Geometry
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from scans import make, save, scan, slices

SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"


def stored(path: Path, frames: int = 1) -> Stack:
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    planes = [Plane(path.name, n) for n in range(frames)]
    return decode(planes, path.parent, (header.Columns, header.Rows, frames))


# ------------------------------------------------------------------------------------------------------------ encodings

MR = [
    "MR_small_RLE", "MR_small_bigendian", "MR_small_expb", "MR_small_implicit", "MR_small_jp2klossless",
    "MR_small_jpeg_ls_lossless", "MR_small_padded",
]  # fmt: skip


@pytest.mark.parametrize("name", MR)
def test_encodings_of_one_slice_hold_the_same_values(name: str) -> None:
    plain = pydicom.dcmread(SAMPLES / "MR_small.dcm").pixel_array
    found = stored(SAMPLES / f"{name}.dcm").array[0]
    assert np.array_equal(found, plain)
    assert found.dtype == np.int16


@pytest.mark.parametrize("name", ["rtdose", "rtdose_expb", "rtdose_rle"])
def test_words_of_32_bits_and_several_frames(name: str) -> None:
    plain = pydicom.dcmread(SAMPLES / "rtdose.dcm").pixel_array
    path = SAMPLES / f"{name}.dcm"
    assert np.array_equal(stored(path, 15).array, plain)
    chosen = decode([Plane(path.name, n) for n in (7, 0, 14)], path.parent, (10, 10, 3)).array
    assert np.array_equal(chosen, plain[[7, 0, 14]])


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("image_dfl", 1), ("liver_1frame", 1), ("liver_expb_1frame", 1), ("JPEG2000", 1), ("693_J2KI", 1),
        ("JPEGLSNearLossless_08", 1), ("JPEGLSNearLossless_16", 1), ("examples_overlay", 1), ("CT_small", 1),
        ("rtdose_expb_1frame", 1),
    ],
)  # fmt: skip
def test_other_encodings_agree_with_pydicom(name: str, frames: int) -> None:
    data = pydicom.dcmread(SAMPLES / f"{name}.dcm", force=True)
    try:
        expected = data.pixel_array
    except RuntimeError:
        pytest.skip("needs a plugin of pydicom")
    found = stored(SAMPLES / f"{name}.dcm").array
    assert np.array_equal(np.squeeze(found), np.squeeze(expected if expected.shape[-1] != 3 else expected[..., 0]))


PLAIN_WORDS = {
    "signed": ("i2", 16, {}),
    "unsigned 12 of 16": ("u2", 12, {}),
    "four bytes": ("i4", 32, {}),
    "implicit": ("u2", 16, {"syntax": ImplicitVRLittleEndian}),
    "dark is high": ("u2", 12, {"PhotometricInterpretation": "MONOCHROME1"}),
    "signed, dark is high": ("i2", 12, {"PhotometricInterpretation": "MONOCHROME1"}),
    "beside other bits": ("u2", 16, {"HighBit": 13, "BitsStored": 12}),
    "padding and units": ("u2", 12, {"PixelPaddingValue": 63, "Units": "BQML"}),
    "several frames": ("u2", 12, {"frames": 3}),
}


@pytest.mark.parametrize("keep_dark", [True, False])
@pytest.mark.parametrize("name", PLAIN_WORDS)
def test_plain_words_are_read_without_a_decoder_and_as_the_decoder_does(
    name: str, keep_dark: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, bits, options = PLAIN_WORDS[name]
    tags = dict(options)
    frames, rng = tags.pop("frames", 1), np.random.default_rng(3)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind[0] == "i" else (0, 2**bits)
    planes = []
    for number in range(2):
        array = rng.integers(low, high, (frames, 6, 5)).astype(kind)
        save(make(array if frames > 1 else array[0], bits=bits, **tags), tmp_path / f"{number}.dcm")
        planes += [Plane(f"{number}.dcm", frame) for frame in reversed(range(frames))]
    size = (5, 6, len(planes))
    with monkeypatch.context() as without:
        without.setattr(direct, "read", lambda *_, **__: None)
        decoded = decode(planes, tmp_path, size, keep_dark=keep_dark)
    monkeypatch.setattr(pixels, "isolated", None)
    plain = decode(planes, tmp_path, size, keep_dark=keep_dark)
    assert np.array_equal(plain.array, decoded.array)
    assert plain.array.dtype == decoded.array.dtype
    assert plain.facts == decoded.facts


def test_jpeg_with_loss_is_decoded_at_12_bits() -> None:
    extended = stored(SAMPLES / "JPGExtended.dcm").array[0].astype(float)
    other = stored(SAMPLES / "JPEG2000.dcm").array[0].astype(float)  # the same scintigram, also with loss
    assert extended.shape == (1024, 256)
    assert np.corrcoef(extended.ravel(), other.ravel())[0, 1] > 0.9
    assert extended.max() == 264  # cut to 8 bits it would be another number


def test_colour_becomes_luma() -> None:
    plain = stored(SAMPLES / "SC_rgb_rle.dcm")
    rgb = pydicom.dcmread(SAMPLES / "SC_rgb_rle.dcm").pixel_array
    expected = np.asarray(Image.fromarray(rgb).convert("L"), dtype=int)  # ITU-R BT.601 in fixed point
    assert np.abs(plain.array[0] - expected).max() <= 1
    assert plain.facts.colour == 1
    # JPEG lossless, planar, 16 bits and big endian: the same picture
    for name in ("SC_rgb_jpeg_gdcm", "SC_rgb_gdcm_KY"):
        assert np.array_equal(stored(SAMPLES / f"{name}.dcm").array, plain.array), name
    wide = stored(SAMPLES / "SC_rgb_rle_16bit_2frame.dcm", 2)
    assert wide.facts.colour == 2
    assert np.abs(wide.array[0] / 257 - plain.array[0]).max() <= 1


SYNTAXES = [
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
    JPEGLSLossless, JPEG2000Lossless,
]  # fmt: skip
KINDS = [("u1", 8), ("i2", 12), ("i2", 16), ("u2", 12), ("u2", 16), ("u4", 32), ("i4", 32)]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.keyword)
def test_every_size_and_sign_in_every_encoding(syntax: pydicom.uid.UID, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    tried = 0
    for kind, bits in KINDS:
        if syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless) and bits == 32:
            continue
        if (syntax, kind[0]) == (JPEGLSLossless, "i"):
            continue  # the encoder has no signed samples
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind[0] == "i" else (0, 2**bits)
        array = rng.integers(low, high, (3, 40, 48)).astype(kind)
        try:
            path = save(make(array, bits=bits, syntax=syntax), tmp_path / f"{kind}{bits}.dcm")
        except RuntimeError:
            pytest.skip("no encoder for this syntax here")
        found = decode([Plane(path.name, n) for n in (2, 0, 1)], tmp_path, (48, 40, 3))
        assert np.array_equal(found.array, array[[2, 0, 1]]), (kind, bits)
        tried += 1
    assert tried


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")])
def test_floating_point_pixels(keyword: str, kind: str, tmp_path: Path) -> None:
    array = np.random.default_rng(2).normal(size=(2, 6, 8)).astype(kind)
    data = make(np.zeros((2, 6, 8), "u2"), **{keyword: array.tobytes()})
    del data.PixelData
    data.BitsAllocated = 8 * array.dtype.itemsize
    path = save(data, tmp_path / "a.dcm")
    assert np.array_equal(decode([Plane(path.name, n) for n in (1, 0)], tmp_path, (8, 6, 2)).array, array[::-1])


def test_slices_of_different_types_share_a_volume(tmp_path: Path) -> None:
    arrays = [np.full((4, 5), v, k) for v, k in ((60000, "u2"), (-7, "i2"), (200, "u1"))]
    for number, array in enumerate(arrays):
        save(make(array), tmp_path / f"{number}.dcm")
    found = decode([Plane(f"{n}.dcm") for n in range(3)], tmp_path, (5, 4, 3)).array
    assert [int(p[0, 0]) for p in found] == [60000, -7, 200]


def test_unused_bits_and_shifted_words(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 4096, (8, 8)).astype("u2")
    overlay = make(values | np.uint16(0x4000), bits=12)
    overlay.add_new((0x6000, 0x0100), "US", 16)
    overlay.add_new((0x6000, 0x0102), "US", 14)
    shifted = make(values << np.uint16(4), bits=12, HighBit=15)
    negative = make((values.astype("i4") - 2048).astype("i2") & np.int16(0x0FFF), bits=12)  # sign not extended
    for name, data, expected in (
        ("overlay", overlay, values),
        ("shifted", shifted, values),
        ("negative", negative, values.astype(int) - 2048),
    ):
        path = save(data, tmp_path / f"{name}.dcm")
        found = decode([Plane(path.name)], tmp_path, (8, 8, 1))
        assert np.array_equal(found.array[0], expected), name
        assert found.facts.excess == 0
    # more bits than declared, and no overlay that explains them: values stay whole
    path = save(make(values + np.uint16(9000), bits=12), tmp_path / "excess.dcm")
    found = decode([Plane(path.name)], tmp_path, (8, 8, 1))
    assert np.array_equal(found.array[0], values + 9000)
    assert found.facts.excess == 1


def test_j2k_whose_sign_differs_from_its_header_follows_the_header() -> None:
    path = SAMPLES / "J2K_pixelrep_mismatch.dcm"
    found = stored(path)
    assert found.facts.sign_differs == 1
    assert (found.array.min(), found.array.max()) == (-2000, 1896)
    assert np.array_equal(found.array[0], pydicom.dcmread(path).pixel_array)
    assert stored(SAMPLES / "MR_small_jp2klossless.dcm").facts.sign_differs == 0


# --------------------------------------------------------------------------------------------------------- other images


def test_images_of_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    volume = rng.integers(-1000, 1000, (5, 6, 7)).astype("i2")
    for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha"):
        sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / name))
        found = decode([Plane(name, n, image=True) for n in range(5)], tmp_path, (7, 6, 5))
        assert np.array_equal(found.array, volume), name
    grey = rng.integers(0, 256, (6, 7)).astype("u1")
    colour = rng.integers(0, 256, (6, 7, 3)).astype("u1")
    deep = rng.integers(0, 65536, (6, 7)).astype("u2")
    Image.fromarray(grey).save(tmp_path / "g.png")
    Image.fromarray(grey).save(tmp_path / "g.tif")
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "g3.png")
    Image.fromarray(np.dstack([colour, np.full_like(grey, 9)])).save(tmp_path / "c.png")
    Image.fromarray(deep).save(tmp_path / "d.png")
    Image.fromarray(np.full((6, 7), 77, "u1")).save(tmp_path / "j.jpg")
    one = partial(decode, folder=tmp_path, size=(7, 6, 1))
    for name in ("g.png", "g.tif", "g3.png"):  # colour that is grey costs no flag
        found = one([Plane(name, image=True)])
        assert np.array_equal(found.array[0], grey)
        assert found.facts.colour == 0
    assert np.array_equal(one([Plane("d.png", image=True)]).array[0], deep)
    assert (one([Plane("j.jpg", image=True)]).array == 77).all()
    found = one([Plane("c.png", image=True)])
    assert np.abs(found.array[0] - np.asarray(Image.fromarray(colour).convert("L"), int)).max() <= 1
    assert found.facts.colour == 1
    with pytest.raises(ScanError, match="GEOM_MATRIX_MIXED: slice 0 is not 6 x 7"):
        decode([Plane("a.nii", image=True)], tmp_path, (6, 7, 1))
    with pytest.raises(ScanError, match="5 frames"):
        decode([Plane("a.nii", 5, image=True)], tmp_path, (7, 6, 1))


def test_members_of_archives(tmp_path: Path) -> None:
    array = np.arange(48, dtype="i2").reshape(6, 8)
    save(make(array), tmp_path / "a.dcm")
    sitk.WriteImage(sitk.GetImageFromArray(array[None]), str(tmp_path / "a.nii.gz"))
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.dcm", "deep/a.dcm")
        archive.write(tmp_path / "a.nii.gz", "deep/a.nii.gz")
    planes = [Plane("z.zip//deep/a.dcm"), Plane("z.zip//deep/a.nii.gz", image=True)]
    found = decode(planes, tmp_path, (8, 6, 2)).array
    assert np.array_equal(found, np.stack([array, array]))


# ------------------------------------------------------------------------------------------------------------ isolation


def child(action: Callable[[], object], **options: object) -> object:
    def work(channel: decoder.Channel) -> object:
        channel.tick(4, 0)
        return action()

    return decoder.isolated(work, lambda *_: np.empty(0), **{"memory_bytes": 2**28, **options})


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "slice 4: the decoder crashed"),
        (os.abort, "slice 4: the decoder crashed"),
        (lambda: os._exit(3), "slice 4: the decoder crashed"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "slice 4: the decoder crashed"),
        (spin, "slice 4: the decoder took too much processor time"),
        (lambda: time.sleep(60), "slice 4: the decoder did not answer within 0.3 s"),
        (lambda: bytearray(2**33), "slice 4 needs more memory to decode than its size explains"),
        (lambda: 1 / 0, "slice 4 cannot be decoded"),
        (sys.exit, "slice 4: the decoder crashed"),
    ],
)
def test_decoder_that_goes_down_costs_a_code(
    action: Callable[[], object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "CPU_S", 0.2)
    with pytest.raises(ScanError) as error:
        child(action, stalled_s=0.3 if "answer" in reason else 60.0)
    assert (error.value.code, error.value.reason) == ("TS_UNDECODABLE", reason)
    assert child(lambda: 5) == 5  # and nothing else
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # no process is left behind


def test_child_is_silent_and_file_errors_stay_what_they_are(capfd: pytest.CaptureFixture, tmp_path: Path) -> None:
    child(lambda: os.write(2, b"PATIENTS/DOE") and os.write(1, b"PATIENTS/DOE"))
    assert capfd.readouterr() == ("", "")
    with pytest.raises(FileNotFoundError):
        decode([Plane("gone.dcm")], tmp_path, (4, 4, 1))
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_sizes_are_checked_before_anything_is_decoded(tmp_path: Path) -> None:
    trap = make(np.zeros((4, 4), "u2"), syntax=RLELossless)
    trap.Rows = trap.Columns = 65535
    path = save(trap, tmp_path / "a.dcm")
    with pytest.raises(ScanError, match="GEOM_MATRIX_MIXED"):
        decode([Plane(path.name)], tmp_path, (4, 4, 1))
    with pytest.raises(ScanError, match="more than a scan can be"):
        decode([Plane(path.name)] * 2, tmp_path, (65535, 65535, 2))
    few = save(make(np.zeros((2, 4, 4), "u2"), NumberOfFrames=9), tmp_path / "b.dcm")
    for frame, reason in ((8, "slice 0 is cut off"), (9, "slice 0: the file has 9 frames")):
        with pytest.raises(ScanError, match=reason):
            decode([Plane(few.name, frame)], tmp_path, (4, 4, 1))


def test_deflated_bomb_ends_at_the_memory_limit(tmp_path: Path) -> None:
    path = save(make(np.zeros((4, 4), "u2"), syntax=DeflatedExplicitVRLittleEndian), tmp_path / "a.dcm")
    data = path.read_bytes()
    start = 132 + 12 + int.from_bytes(data[140:144], "little")  # behind the group of file meta
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    content = zlib.decompress(data[start:], -15)
    packed = [data[:start], packer.compress(content + struct.pack("<HH2sHI", 0x7FE1, 0x1010, b"OB", 0, 5 * 2**27))]
    packed += [packer.compress(bytes(2**24)) for _ in range(40)]
    path.write_bytes(b"".join([*packed, packer.flush()]))
    assert path.stat().st_size < 2**22
    with pytest.raises(ScanError, match="needs more memory"):
        decode([Plane(path.name)], tmp_path, (4, 4, 1))


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small"])
def test_mutated_files_decode_or_have_a_code(name: str, tmp_path: Path) -> None:
    original = (SAMPLES / f"{name}.dcm").read_bytes()
    rng = np.random.default_rng(5)
    refused = 0
    for number in range(20):
        data = bytearray(original)
        for at in rng.integers(132, len(data), 1 + number):
            data[at] = int(rng.integers(256))
        if number % 4 == 3:
            del data[int(rng.integers(len(data))) :]
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data)
        outcome = outcome_of(tmp_path, path.name)
        assert outcome in ("(1, 64, 64)", "TS_UNDECODABLE", "GEOM_MATRIX_MIXED")
        refused += outcome.isupper()
    assert refused


def outcome_of(folder: Path, name: str) -> str:
    try:
        return str(decode([Plane(name)], folder, (64, 64, 1)).array.shape)
    except ScanError as error:
        return error.code if str(folder) not in str(error) else "a path in the message"


# ---------------------------------------------------------------------------------------------------- values and hashes


def test_rescaling_is_exact() -> None:
    stack = np.array([[[0, 4095]], [[7, 65535]]], dtype="u2")
    ones = np.ones(2)
    low = rescale(stack[:1].copy(), ones[:1], np.array([-1024.0]))
    assert low.dtype == np.int16
    assert low.ravel().tolist() == [-1024, 3071]
    wrapped = rescale(stack.copy(), ones, np.full(2, -40000.0))  # beyond int16 on the way, within it at the end
    assert wrapped.ravel().tolist() == [-40000, -35905, -39993, 25535]
    assert wrapped.dtype == np.float32
    inside = rescale(np.array([[[40000, 60000]]], "u2"), ones[:1], np.array([-50000.0]))
    assert inside.dtype == np.int16
    assert inside.ravel().tolist() == [-10000, 10000]
    half = rescale(stack.copy(), np.array([0.5, 1]), np.zeros(2))
    assert half.dtype == np.float32
    assert half.ravel().tolist() == [0, 2047.5, 7, 65535]
    even = rescale(np.array([[[2, 4]]], "i4"), np.array([0.5]), np.array([1.0]))
    assert even.dtype == np.int16  # the type follows from the values
    double = rescale(np.array([[[2, -4]]], "i2"), np.array([2.0]), np.array([1.0]))
    assert (double.dtype, double.ravel().tolist()) == (np.int16, [5, -7])
    with pytest.raises(ScanError, match="no finite numbers"):
        rescale(np.array([[[np.nan]]]), ones[:1], np.zeros(1))


def test_hash_does_not_depend_on_how_the_axes_run() -> None:
    array = np.random.default_rng(6).integers(0, 99, (3, 4, 5)).astype("i2")
    axial = pixels_sha256(array, Geometry((5, 4, 3), (1, 1, 1)))
    flipped = pixels_sha256(
        array[:, ::-1, ::-1], Geometry((5, 4, 3), (1, 1, 1), direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1))
    )
    # sagittal slices: columns run posterior, rows head to foot, slices to the left
    sagittal = Geometry((4, 3, 5), (1, 1, 1), direction=(0, 0, 1, 1, 0, 0, 0, -1, 0))
    turned = pixels_sha256(array.transpose(2, 0, 1)[:, ::-1], sagittal)
    assert axial == flipped == turned
    assert axial != pixels_sha256(array[:, ::-1], Geometry((5, 4, 3), (1, 1, 1)))


# --------------------------------------------------------------------------------------------------------- plausibility


def body(
    air: float = -1000, *, padding: float | None = None, noise: float = 15.0, size: int = 160, tissue: float = 40.0
) -> np.ndarray:
    """Ten slices of a body with lungs in air, HU, with the corners outside the field of view as padding."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    plane = np.where((x / 0.4) ** 2 + (y / 0.28) ** 2 < 1, tissue, air)
    for side in (-0.18, 0.18):
        plane = np.where(((x - side) / 0.12) ** 2 + (y / 0.18) ** 2 < 1, tissue - 890, plane)
    stack = plane + np.random.default_rng(7).normal(0, noise, (10, size, size))
    if padding is not None:
        stack[:, x**2 + y**2 > 0.25] = padding
    return np.rint(stack).astype("i2")


@pytest.mark.parametrize("air", [-1000, -992, -1049, -880, -1120])
@pytest.mark.parametrize("padding", [None, -1024, -2000, -3024, 0])
def test_air_is_found_wherever_it_is_and_padding_is_not_air(air: float, padding: float | None) -> None:
    peak = plausible.air_peak(body(air, padding=padding))
    assert peak == pytest.approx(air, abs=4)


def test_air_is_judged_only_where_there_is_enough() -> None:
    whole = body(-850)
    assert plausible.air_is_off(whole, 400, 50) == pytest.approx(-850, abs=4)
    assert plausible.air_is_off(whole, 400, 200) is None
    assert plausible.air_is_off(whole, 150, 50) is None  # in a small image it may be lung
    assert plausible.air_peak(body()[:, 50:110, 40:120]) is None  # cut to the body
    erased = body()
    erased[:, body(noise=0)[0] == -1000] = -1000
    assert plausible.air_peak(erased) is None
    assert plausible.air_peak(np.random.default_rng(8).integers(-1024, 976, (9, 64, 64))) is None
    # stored values whose intercept was lost
    assert plausible.air_is_off(body(24, tissue=1064), 400, 50) == pytest.approx(24, abs=4)


def test_hounsfield_proof_needs_air_and_bone() -> None:
    bone = body()
    bone[4:6, 78:82, 78:82] = 900
    assert plausible.proves_hounsfield(bone)
    assert not plausible.proves_hounsfield(body())
    assert not plausible.proves_hounsfield(bone + 1024)
    assert not plausible.proves_hounsfield(bone - 1024)
    assert not plausible.proves_hounsfield(bone * 2)


def why_not(array: np.ndarray) -> str:
    return plausible.not_hounsfield(array, float(array.min()), float(array.max()))


def test_values_that_are_no_hounsfield_units() -> None:
    assert why_not(body()) == ""
    assert "8 bits" in why_not(np.array([[[0, 255]]]))
    assert "between 0 and 6" in why_not(np.array([[[0.0, 6.0]]]))
    assert "median" in why_not(body() + 20000.0)


def test_values_that_end_at_a_limit() -> None:
    metal = body()
    assert plausible.clipped(metal, float(metal.max()), 1100) == 0
    metal[5, 80:86, 80:86] = 3071
    assert plausible.clipped(metal, 3071, 4095) == 36
    metal[5, 80:86, 80:86] = 3000
    assert plausible.clipped(metal, 3000, 4024) == 0


def test_sign_is_told_by_neighbours() -> None:
    signed = body()
    unsigned = body() + 1124
    bits12 = np.clip(body(tissue=1024) + 1024, 0, 4095)  # bone beyond half of the range
    wrong = plausible.sign_is_wrong
    assert not wrong(signed, 16, True, [])
    assert wrong(signed.view("u2"), 16, False, [])
    assert not wrong(unsigned.view("u2"), 16, False, [])
    assert not wrong(bits12.astype("u2"), 12, False, [])
    folded = plausible.with_other_sign(bits12.astype("u2"), 12, False)
    assert folded.min() < 0
    assert wrong(folded, 12, True, [])
    assert np.array_equal(plausible.with_other_sign(folded, 12, True), bits12)
    assert np.array_equal(plausible.with_other_sign(signed.view("u2"), 16, False), signed)
    # padding at an end of the range, or named by the header, tells nothing
    padded = unsigned.copy().view("u2")
    padded[:, :20] = 65535
    assert not wrong(padded, 16, False, [])
    padded[:, :20] = 63536
    assert not wrong(padded, 16, False, [63536])


# ---------------------------------------------------------------------------------------------------------- whole scans


GRID = Geometry((160, 160, 10), (2.5, 2.5, 5.0))


def test_findings_follow_the_verdicts(tmp_path: Path) -> None:
    off = slices(tmp_path, body(-850))
    made, _ = scan(tmp_path, off, GRID)
    assert (made["status"], made["reason"]) == ("rejected", "HU_AIR_OFF: the air around the body is at -850 HU")
    made, _ = scan(tmp_path, off, GRID, verdicts={"HU_AIR_OFF": "flag"})
    assert (made["status"], made["codes"], made["unit"]) == ("ok", "HU_AIR_OFF", "HU")
    made, _ = scan(tmp_path, off, GRID, air_tolerance_hu=200)
    assert made["codes"] == ""
    picture = np.clip(body() // 8 + 128, 0, 255)
    made, _ = scan(tmp_path, slices(tmp_path, picture, "p"), GRID)
    assert made["reason"].startswith("MODALITY_TAG_SUSPECT: no Hounsfield units")
    made, _ = scan(tmp_path, slices(tmp_path, picture, "p"), GRID, modality="MR")
    assert (made["codes"], made["unit"]) == ("", "arbitrary")
    metal = np.maximum(body(), -1024)
    metal[5, 80:90, 80:90] = 3071
    made, _ = scan(tmp_path, slices(tmp_path, metal, "m"), GRID)
    assert made["codes"] == "HU_CLIPPED"


def test_missing_rescale_is_accepted_on_proof_only(tmp_path: Path) -> None:
    bone = body()
    bone[4:6, 78:82, 78:82] = 900
    bare = [r | {"slope": None, "intercept": None} for r in slices(tmp_path, bone)]
    repair = {"RESCALE_MISSING": "repair"}
    made, volume = scan(tmp_path, bare, GRID, verdicts=repair)
    assert made["codes"] == "HU_IMPLAUSIBLE;RESCALE_MISSING"
    assert json.loads(made["repairs"])[0] == {
        "code": "RESCALE_MISSING", "before": {"slope": None, "intercept": None}, "after": {"slope": 1, "intercept": 0}
    }  # fmt: skip
    assert np.array_equal(volume.array, np.maximum(bone, -1024))
    stored_only = [r | {"slope": None, "intercept": None} for r in slices(tmp_path, bone + 1024, "u")]
    made, _ = scan(tmp_path, stored_only, GRID, verdicts=repair)
    assert made["reason"].startswith("RESCALE_MISSING: 10 slices have no rescale slope or intercept, and their values")
    made, _ = scan(tmp_path, stored_only, GRID, modality="MR")
    assert made["status"] == "ok"


def test_wrong_sign_is_repaired(tmp_path: Path) -> None:
    rows = slices(tmp_path, body().view("u2"))
    made, volume = scan(tmp_path, rows, GRID)
    assert made["codes"] == "HU_IMPLAUSIBLE;PIXELREP_MISMATCH"
    repairs = {r["code"]: r for r in json.loads(made["repairs"])}
    assert repairs["PIXELREP_MISMATCH"]["after"] == {"signed": True}
    assert repairs["HU_IMPLAUSIBLE"] == {
        "code": "HU_IMPLAUSIBLE", "before": {"minimum_hu": float(body().min())}, "after": {"minimum_hu": -1024.0}
    }  # fmt: skip
    assert np.array_equal(volume.array, np.maximum(body(), -1024))
    right, _ = scan(tmp_path, slices(tmp_path, body(), "s"), GRID)
    assert right["pixels_sha256"] == made["pixels_sha256"]
    made, _ = scan(tmp_path, rows, GRID, verdicts={"PIXELREP_MISMATCH": "reject"})
    assert made["reason"].startswith("PIXELREP_MISMATCH: values declared unsigned")


def test_uptake_units_and_slopes_per_slice(tmp_path: Path) -> None:
    counts = np.random.default_rng(9).integers(0, 30000, (4, 6, 8)).astype("i2")
    grid = Geometry((8, 6, 4), (4, 4, 4))
    rows = slices(tmp_path, counts, Units="BQML", Modality="PT")
    slopes = [0.31, 0.27, 1.4, 0.9]
    rows = [r | {"slope": s, "suv_factor": 2.5e-4} for r, s in zip(rows, slopes, strict=True)]
    made, volume = scan(tmp_path, rows, grid, "PT")
    by_hand = counts * np.array(slopes)[:, None, None] * 2.5e-4
    assert made["unit"] == "SUVbw (g/mL)"
    assert np.allclose(volume.array, by_hand, rtol=1e-6)
    raw, volume = scan(tmp_path, [r | {"suv_factor": None} for r in rows], grid, "PT")
    assert raw["unit"] == "Bq/mL"
    assert np.allclose(volume.array, counts * np.array(slopes)[:, None, None], rtol=1e-6)
    assert raw["pixels_sha256"] == made["pixels_sha256"]  # the same pixels under a patient of another weight


def test_dark_pictures_are_turned_over(tmp_path: Path) -> None:
    values = np.random.default_rng(10).integers(0, 4096, (2, 6, 8)).astype("u2")
    rows = slices(tmp_path, values, bits=12, PhotometricInterpretation="MONOCHROME1")
    grid = Geometry((8, 6, 2), (0.2, 0.2, 1.0))
    made, volume = scan(tmp_path, rows, grid, "DX")
    assert made["codes"] == "GREY_INVERTED"
    assert np.array_equal(volume.array, 4095 - values.astype(int))
    made, volume = scan(tmp_path, rows, grid, "DX", {"GREY_INVERTED": "flag"})
    assert (made["codes"], made["repairs"]) == ("GREY_INVERTED", "")
    assert np.array_equal(volume.array, values)
    made, volume = scan(tmp_path, rows, grid, "NM")
    assert (made["codes"], made["unit"]) == ("", "counts")
    assert np.array_equal(volume.array, values)


def test_frames_of_one_file_make_a_volume(tmp_path: Path) -> None:
    array = body()
    save(make(array), tmp_path / "multi.dcm")
    rows = [{"path": "multi.dcm", "frame": n, "slope": 1, "intercept": 0} for n in range(10)]
    made, volume = scan(tmp_path, rows, GRID, clip_below_hu=None)
    single, _ = scan(tmp_path, slices(tmp_path, array), GRID, clip_below_hu=None)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "a.nii.gz"))
    image = [{"path": "a.nii.gz", "frame": n, "reading": "image"} for n in range(10)]
    nifti, _ = scan(tmp_path, image, GRID, clip_below_hu=None)
    assert np.array_equal(volume.array, array)
    assert made["pixels_sha256"] == single["pixels_sha256"] == nifti["pixels_sha256"]
    assert made["sha256"] == single["sha256"] == nifti["sha256"]


def test_volume_file_is_what_simpleitk_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    for kind in ("i2", "f4", "u1"):
        for shape in ((5, 7, 9), (1, 7, 9), (4, 1, 1)):
            grid = Geometry(shape[::-1], (0.7, 0.8, 3.1), (-10.1, 2, 3), tuple(turn.ravel()))
            volume = volumes.Volume(rng.integers(0, 200, shape).astype(kind), grid)
            volumes.write(volume, tmp_path / "ours.nii")
            sitk.WriteImage(volume.to_sitk(), str(tmp_path / "itk.nii"), useCompression=False)
            assert (tmp_path / "ours.nii").read_bytes() == (tmp_path / "itk.nii").read_bytes()


# ------------------------------------------------------------------------------------------------------------ real data


def headers(folder: Path) -> list[tuple[Path, pydicom.Dataset]]:
    return [(p, pydicom.dcmread(p, stop_before_pixels=True)) for p in sorted(folder.rglob("*.dcm"))]


@pytest.mark.realdata
def test_encodings_of_a_scintigram(realdata: Callable[[str], Path]) -> None:
    root = realdata("bone_scan")
    plain = stored(root / "JPEG2000_UNC.dcm").array
    assert np.array_equal(stored(SAMPLES / "JPEG2000.dcm").array, plain)
    # despite their names the plain copy is what JPEG 2000 left of the picture with loss; JPEG-LL holds the original
    lossless = stored(root / "JPEG-LL.dcm").array
    assert np.array_equal(lossless, sitk.GetArrayFromImage(sitk.ReadImage(str(root / "JPEG-LL.dcm"))))
    extended = stored(SAMPLES / "JPGExtended.dcm").array
    assert np.abs(lossless - extended.astype(int)).mean() < 2.5
    assert 3 < np.abs(lossless - plain.astype(int)).mean() < 5


@pytest.mark.realdata
def test_scanner_fragments_decode(realdata: Callable[[str], Path]) -> None:
    """Plain files as pydicom reads them, compressed ones as their plain twins where there are any."""
    root = realdata("dicom_defects")
    decoded, seen = 0, set()
    for path, header in headers(root):
        if "Rows" not in header:
            continue
        frames = int(header.get("NumberOfFrames") or 1)
        found = stored(path, frames).array
        data = pydicom.dcmread(path)
        seen.add(data.file_meta.TransferSyntaxUID)
        try:
            expected = data.pixel_array
        except RuntimeError:
            continue
        if header.SamplesPerPixel > 1:
            continue
        assert np.array_equal(found, expected.reshape(found.shape)), path.relative_to(root)
        decoded += 1
    assert decoded > 50
    assert len(seen) >= 6


@pytest.mark.realdata
def test_dicom_and_nifti_of_one_phantom_hold_the_same_values(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    root = realdata("ibsi") / "ibsi_1_ct_radiomics_phantom"
    series = sorted(headers(root / "dicom" / "image"), key=lambda item: item[1].ImagePositionPatient[2])
    grid = Geometry((series[0][1].Columns, series[0][1].Rows, len(series)), (1, 1, 3))
    for path, _ in series:
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "p.nii.gz").symlink_to(root / "nifti" / "image" / "phantom.nii.gz")
    rows = [{"path": p.name, "slope": float(h.RescaleSlope), "intercept": float(h.RescaleIntercept)} for p, h in series]
    made, dicom = scan(tmp_path, rows, grid)
    # NIfTI's array as ITK reads it has the rows and slices of the DICOM
    image = [{"path": "p.nii.gz", "frame": n, "reading": "image"} for n in range(len(series))]
    other, nifti = scan(tmp_path, image, grid)
    assert np.array_equal(dicom.array, nifti.array)
    assert made["pixels_sha256"] == other["pixels_sha256"]


@pytest.mark.realdata
def test_air_of_real_scans_is_where_it_should_be(realdata: Callable[[str], Path]) -> None:
    judged = 0
    folders = [realdata("lung1") / "dicom", *sorted(realdata("sts").glob("STS_*/CT/image")), realdata("gantry_tilt")]
    folders += [realdata("chaos_ct"), realdata("ibsi") / "ibsi_1_ct_radiomics_phantom" / "dicom" / "image"]
    for folder in folders:
        series: dict[str, list] = {}
        for path, header in headers(folder):
            if header.Modality == "CT" and "ImagePositionPatient" in header:
                series.setdefault(header.SeriesInstanceUID, []).append(
                    (float(header.ImagePositionPatient[2]), path, header)
                )
        for found in series.values():
            found = sorted(found, key=lambda item: item[:2])[:: max(1, len(found) // 16)]
            header = found[0][2]
            planes = [Plane(str(p.relative_to(folder))) for _, p, _ in found]
            stack = decode(planes, folder, (header.Columns, header.Rows, len(found)))
            assert not plausible.sign_is_wrong(stack.array, stack.facts.bits, stack.facts.signed, stack.facts.padding)
            array = rescale(stack.array, np.ones(len(found)), np.full(len(found), float(header.RescaleIntercept)))
            peak = plausible.air_peak(array)
            assert peak is None or abs(peak + 1000) < 40, folder
            assert why_not(array) == ""
            judged += peak is not None
    assert judged >= 6


@pytest.mark.realdata
def test_values_of_a_chest_are_those_of_simpleitk(realdata: Callable[[str], Path]) -> None:
    root = realdata("lung1") / "dicom"
    for folder in sorted(root.iterdir()):
        some = [(p, h) for p, h in headers(folder) if h.Modality == "CT"][::9]
        planes = [Plane(str(p.relative_to(root))) for p, _ in some]
        stack = decode(planes, root, (512, 512, len(some)))
        slopes, intercepts = (
            np.array([float(h[k].value) for _, h in some]) for k in ("RescaleSlope", "RescaleIntercept")
        )
        found = rescale(stack.array, slopes, intercepts)
        assert found.dtype == np.int16
        for plane, (path, _) in zip(found, some, strict=True):
            assert np.array_equal(plane, sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0])


@pytest.mark.realdata
def test_uptake_of_real_scans(realdata: Callable[[str], Path], tmp_path: Path) -> None:
    """Fluorodeoxyglucose in sarcomas: all six are stored as SUV already (g/mL), so the factor is one."""
    for folder in sorted(realdata("sts").glob("STS_*/PET/image")):
        found = sorted(headers(folder), key=lambda item: float(item[1].ImagePositionPatient[2]))
        header = found[0][1]
        assert header.Units == "GML"
        work = tmp_path / folder.parent.parent.name
        work.mkdir()
        rows = []
        for path, h in found:
            (work / path.name).symlink_to(path)
            rows.append({"path": path.name, "slope": float(h.RescaleSlope), "intercept": 0.0, "suv_factor": 1.0})
        grid = Geometry((header.Columns, header.Rows, len(found)), (4, 4, 4))
        made, volume = scan(work, rows, grid, "PT")
        assert made["unit"] == "SUVbw (g/mL)"
        middle = len(found) // 2
        path, h = found[middle]
        by_hand = pydicom.dcmread(path).pixel_array * float(h.RescaleSlope)
        assert np.allclose(volume.array[middle], by_hand, rtol=1e-5, atol=1e-6)
        assert 2 < volume.array.max() < 60
