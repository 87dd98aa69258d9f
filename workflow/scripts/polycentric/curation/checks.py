"""The checks of a candidate, in the order in which they run.

A check looks at the files that earlier repairs left and yields what it finds; it decides nothing. Which verdict a
finding gets is settled by `candidates.settle`. Facts behind the rules: the defect table of the documentation.
"""

from __future__ import annotations

import pandas as pd

from ..config.curation import CurationSettings
from . import headers, stacks
from .candidates import Check
from .geometry import POSITION

CHECKS: tuple[Check, ...] = (
    headers.modality_tag, headers.modality, headers.patient, headers.identifiers, headers.collision, headers.meta,
    headers.burned_in, headers.residual_tags, headers.secondary_capture, headers.synthetic, headers.multiframe,
    headers.truncated, headers.transfer_syntax, stacks.localizers, stacks.position, stacks.matrix, stacks.orientation,
    # twice: what is left when one volume has been told apart may be a mixture still
    stacks.exact_duplicates, stacks.shared_positions, stacks.shared_positions, stacks.slices, stacks.spacing,
    stacks.shear, stacks.axial, stacks.pixels, stacks.pixel_spacing, stacks.thickness, stacks.length,
    headers.rescale, headers.padding, headers.uptake, headers.kernel, headers.contrast, headers.study_time,
)  # fmt: skip
PLANAR: tuple[Check, ...] = (
    headers.modality_tag, headers.modality, headers.patient, headers.identifiers, headers.collision, headers.meta,
    headers.burned_in, headers.residual_tags, headers.planar_capture, headers.synthetic, headers.truncated,
    headers.transfer_syntax, stacks.planar_copies, stacks.planar_matrix, stacks.planar_spacing, stacks.pixel_spacing,
)  # fmt: skip


def planar(files: pd.DataFrame, settings: CurationSettings) -> bool:
    """Whether files are pictures in a plane: by modality, or images of a table that have no position."""
    if (files["reading"] == "image").all():
        return bool(files[POSITION].isna().all(axis=None))
    return set(files["modality"]) <= set(settings.planar)


def checks_for(files: pd.DataFrame, settings: CurationSettings) -> tuple[Check, ...]:
    return PLANAR if planar(files, settings) else CHECKS
