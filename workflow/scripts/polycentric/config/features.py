"""Feature sets and radiomics recipes."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, StringConstraints, Tag, ValidationError, model_validator

from ..errors import UserError
from .base import Expression, Name, Section, Source
from .clinical import ColumnSettings
from .perturb import UNPERTURBED, Chain
from .radiomics_names import FEATURES, unknown
from .stability import SelectedSet
from .views import Interpolation, Interval, Spacing

RECIPES = Path(__file__).parents[4] / "resources" / "recipes"
FEATURE_CLASSES = ("firstorder", "shape", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
Engine = Literal["fast", "pyradiomics"]
FeatureClass = Literal["firstorder", "shape", "shape2D", "glcm", "glrlm", "glszm", "gldm", "ngtdm"]
# settings of PyRadiomics that our preparation of image and mask makes meaningless or that would change global state
UNUSED_SETTINGS = ("label", "label_channel", "additionalInfo", "correctMask", "geometryTolerance", "enableCExtensions")
GRID_SETTINGS = ("resampledPixelSpacing", "interpolator", "padDistance", "preCrop", "normalize")
GRID_SETTINGS += ("normalizeScale", "removeOutliers", "resegmentRange", "resegmentMode", "binWidth", "binCount")


class Recipe(Section):
    """How features are computed: grid, discretisation, image types and feature classes, in PyRadiomics' definitions."""

    description: str = Field("", description="What the recipe is for.")
    engine: Engine = Field(
        "fast",
        description="What computes: `fast` gives PyRadiomics' names and values several times faster, `pyradiomics` is "
        "PyRadiomics itself.",
    )
    grid: Literal["ibsi", "pyradiomics"] = Field(
        "ibsi",
        description="Who resamples and discretises: `ibsi` keeps the centre of the grid, interpolates the mask at 0.5 "
        "and anchors bins at the lower resegmentation bound, as the IBSI reference manual has it; `pyradiomics` leaves "
        "everything to PyRadiomics.",
    )
    spacing_mm: Spacing | None = Field(
        None, description="Voxel spacing for the features along x, y, z in mm; 0 keeps an axis; null keeps the view's."
    )
    interpolation: Interpolation = Field("linear", description="Interpolation of the image.")
    mask_interpolation: Literal["nearest", "linear"] = Field(
        "linear", description="Interpolation of the mask in `grid: ibsi`; linear takes what reaches 0.5."
    )
    round_intensities: bool = Field(
        False, description="Round intensities after resampling in `grid: ibsi`, as for CT in HU."
    )
    bin_width: float | None = Field(
        None, gt=0, description="Width of the grey level bins in intensity units; 25 where bin_count is not given."
    )
    bin_count: int | None = Field(None, gt=1, description="Number of grey level bins, instead of a width.")
    resegment_range: Interval | None = Field(
        None, description="Voxels outside these intensities leave the ROI, except for shape features."
    )
    resegment_sigma: float | None = Field(
        None, gt=0, description="Voxels further than this many standard deviations from the ROI's mean leave it (ibsi)."
    )
    original: bool = Field(True, description="Features of the unfiltered image.")
    log_sigmas_mm: tuple[int | float, ...] = Field(
        (), description="Widths in mm of Laplacian-of-Gaussian filters, each an image type of its own."
    )
    wavelet: str | None = Field(None, description="Wavelet (PyWavelets name such as coif1) of 8 sub-band images.")
    further_image_types: dict[str, dict[str, Any]] = Field(
        {}, description="Other image types of PyRadiomics with their options, such as {Square: {}}."
    )
    classes: dict[FeatureClass, tuple[str, ...]] = Field(
        dict.fromkeys(FEATURE_CLASSES, ()),
        description="Feature classes, each with names of features; an empty list means the whole class.",
    )
    voxel_array_shift: float = Field(0, description="Added to intensities before energy and root mean square.")
    distances: tuple[int, ...] = Field((1,), description="Distances in voxels between neighbours (GLCM, NGTDM, GLDM).")
    two_dimensional: bool = Field(False, description="Compute textures slice by slice.")
    minimum_roi_dimensions: Literal[1, 2, 3] = Field(2, description="Axes along which the ROI must be over one voxel.")
    minimum_roi_voxels: int | None = Field(None, description="An ROI must have more voxels than this.")
    further_settings: dict[str, Any] = Field({}, description="Other settings of PyRadiomics, handed over unchanged.")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = dict(data)
            if data.get("bin_width") is None and data.get("bin_count") is None:
                data["bin_width"] = 25
            if isinstance(data.get("classes"), (list, tuple)):
                data["classes"] = dict.fromkeys(data["classes"], ())
            elif isinstance(data.get("classes"), dict):
                data["classes"] = {name: features or () for name, features in data["classes"].items()}
        return data

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if self.bin_width is not None and self.bin_count is not None:
            raise ValueError("bin_width and bin_count exclude each other: remove one of them")
        if self.resegment_range is not None and self.resegment_range[0] >= self.resegment_range[1]:
            raise ValueError("resegment_range: write the lower bound first, such as [-1000, 400]")
        if not (self.original or self.log_sigmas_mm or self.wavelet or self.further_image_types):
            raise ValueError("no image type is left: write `original: true`, log_sigmas_mm or wavelet")
        for family, features in self.classes.items():
            if wrong := unknown(family, features):
                near = [get_close_matches(name, FEATURES[family], 1) for name in wrong]
                hint = ", ".join(n[0] for n in near if n) or "an empty list for the whole class"
                raise ValueError(f"classes.{family}: there are no features {wrong}; write {hint}")
        if self.grid == "ibsi" and (wrong := sorted({*self.further_settings} & {*GRID_SETTINGS})):
            raise ValueError(
                f"further_settings {wrong} have keys of their own in `grid: ibsi` (spacing_mm, interpolation, "
                f"bin_width, resegment_range); intensities are normalised by steps of the view"
            )
        if self.grid == "pyradiomics" and self.resegment_sigma is not None:
            raise ValueError(
                "resegment_sigma belongs to `grid: ibsi`; in `grid: pyradiomics` write "
                "`further_settings: {resegmentRange: [-3, 3], resegmentMode: sigma}`"
            )
        return self


def from_pyradiomics(parameters: dict[str, Any]) -> Recipe:
    """The recipe of a PyRadiomics parameter file (keys setting, imageType, featureClass), with `grid: pyradiomics`."""
    settings = {k: v for k, v in (parameters.get("setting") or {}).items() if k not in UNUSED_SETTINGS}
    recipe: dict[str, Any] = {"grid": "pyradiomics", "mask_interpolation": "nearest"}

    spacing = settings.pop("resampledPixelSpacing", None)
    kinds = {"sitkNearestNeighbor": "nearest", "sitkLinear": "linear", "sitkBSpline": "bspline"}
    if settings.get("interpolator", "sitkBSpline") in kinds:
        recipe["interpolation"] = kinds[settings.pop("interpolator", "sitkBSpline")]
    recipe["spacing_mm"] = spacing
    if settings.get("resegmentMode", "absolute") == "absolute" and len(settings.get("resegmentRange") or ()) == 2:
        recipe["resegment_range"] = sorted(settings.pop("resegmentRange"))
        settings.pop("resegmentMode", None)
    if settings.get("binCount") is not None:
        settings.pop("binWidth", None)
    names = {
        "binWidth": "bin_width",
        "binCount": "bin_count",
        "voxelArrayShift": "voxel_array_shift",
        "distances": "distances",
        "force2D": "two_dimensional",
        "minimumROIDimensions": "minimum_roi_dimensions",
        "minimumROISize": "minimum_roi_voxels",
    }
    recipe |= {ours: settings.pop(theirs) for theirs, ours in names.items() if theirs in settings}
    recipe["further_settings"] = {k: v for k, v in settings.items() if v is not None}

    images = {k: v or {} for k, v in (parameters.get("imageType") or {"Original": {}}).items()}
    recipe["original"] = images.get("Original") == {}
    if recipe["original"]:
        del images["Original"]
    if {*images.get("LoG", {})} == {"sigma"}:
        recipe["log_sigmas_mm"] = images.pop("LoG")["sigma"]
    if "Wavelet" in images and {*images["Wavelet"]} <= {"wavelet"}:
        recipe["wavelet"] = images.pop("Wavelet").get("wavelet", "coif1")
    recipe["further_image_types"] = images

    if parameters.get("featureClass"):
        recipe["classes"] = parameters["featureClass"]
    return Recipe.model_validate(recipe)


def find_recipe(name: str, folder: Path | None = None) -> Path:
    """Path of a recipe: a file name with suffix lies below `folder` (default: here), a bare name in resources/recipes.

    Raises
    ------
    UserError
        if there is no such file; names those that there are.
    """
    bare = Path(name).suffix not in (".yaml", ".yml")
    path = RECIPES / f"{name}.yaml" if bare else (folder or Path()) / name
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise UserError(f"recipe {name!r}: there is no such file. Write one of {known}, or a path that ends in .yaml.")
    return path


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe; a PyRadiomics parameter file is taken as it is and selects `grid: pyradiomics`.

    Raises
    ------
    UserError
        listing everything that is wrong with the file.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"recipe {path.name}: cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise UserError(f"recipe {path.name}: must hold keys such as `bin_width: 25`")
    theirs = {"setting", "imageType", "featureClass", "voxelSetting"}
    try:
        if {*data} & theirs:
            if extra := sorted({*data} - theirs):
                raise UserError(f"recipe {path.name}: {extra} are no keys of a PyRadiomics parameter file; remove them")
            return from_pyradiomics(data)
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise UserError(
            *(f"recipe {path.name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        ) from None


class DerivedRoi(Section):
    """An ROI made from another one: grown or shrunk, a ring around its surface, or the part within a threshold."""

    of: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="ROI that it is made from; with * and ? every ROI that matches, each giving one named "
        "<ROI>-<name of this>."
    )
    margin_mm: float | None = Field(
        None,
        description="Grow the ROI by this many mm (between voxel centres; the ROI itself is included), or shrink it "
        "where negative.",
    )
    ring_mm: Interval | None = Field(
        None,
        description="Keep the voxels between these distances in mm from the ROI's edge, negative inside: [0, 5] is "
        "the rim around it, [-3, 3] the zone on both sides.",
    )
    above: float | None = Field(None, description="Keep voxels whose intensity in the view is at least this (CT: HU).")
    below: float | None = Field(None, description="Keep voxels whose intensity in the view is less than this (CT: HU).")

    @model_validator(mode="after")
    def _check(self) -> DerivedRoi:
        if self.margin_mm is None and self.ring_mm is None and self.above is None and self.below is None:
            raise ValueError("write what is derived: margin_mm, ring_mm, above or below")
        if self.margin_mm is not None and self.ring_mm is not None:
            raise ValueError("margin_mm and ring_mm exclude each other: remove one of them")
        if self.ring_mm is not None and self.ring_mm[0] >= self.ring_mm[1]:
            raise ValueError("ring_mm: write the inner distance first, such as [0, 5]")
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError("above must be less than below: [above, below) is what stays")
        return self


class RadiomicsSet(Section):
    """Features of a view inside the ROIs of one or several mask sources."""

    kind: Literal["radiomics"] = Field("radiomics", description="Which kind of feature set this is.")
    view: Name = Field(description="View whose intensities are measured.")
    masks: Name | tuple[Name, ...] = Field(
        "manual",
        description="Mask source that outlines the ROIs; a list of them (readers, programs) is measured in one pass, "
        "with rows of each.",
    )
    rois: tuple[str, ...] = Field((), description="Regions of interest; empty: all that a mask source has.")
    derive: dict[Name, DerivedRoi] = Field(
        {}, description="Further ROIs by name, made from those of the mask source, whether or not `rois` lists these."
    )
    recipe: str = Field(
        "ct-25hu",
        description="Name of a recipe in resources/recipes, or path of a YAML file, ours or PyRadiomics' own.",
    )
    engine: Engine | None = Field(None, description="What computes, instead of the recipe's own `engine`.")
    perturb: dict[Name, Chain] = Field(
        {},
        description="Perturbations by name, each a list of steps that image and masks go through before they are "
        "resampled for the features. Their rows serve stability analyses with `repeat: perturbation` alone.",
    )

    @model_validator(mode="after")
    def _check(self) -> RadiomicsSet:
        if UNPERTURBED in self.perturb:
            raise ValueError(f"perturb: {UNPERTURBED} stands for the images as they are; choose another name")
        if not self.sources or len({*self.sources}) < len(self.sources):
            raise ValueError("masks: write a mask source, or a list that names each source once")
        return self

    @property
    def sources(self) -> tuple[str, ...]:
        """The mask sources."""
        return (self.masks,) if isinstance(self.masks, str) else self.masks


class ImportedColumns(Section):
    """Columns that say whose row it is."""

    patient: str = Field("patient", description="Column with the patient identifier as in the images.")
    centre: str | None = Field(None, description="Column with the centre; null: all rows of a file are of one centre.")
    scan: str | None = Field(
        None, description="Column with the scan. A SeriesInstanceUID gets the id of that scan in the cohort."
    )
    visit: str | None = Field(
        None, description="Column with the visit. A StudyInstanceUID gets the id of that session in the cohort."
    )
    roi: str | None = Field(None, description="Column with the region of interest; null: one region per patient.")
    lesion: str | None = Field(
        None, description="Column with the lesion of a region: its text follows the region's name, as in GTV-2."
    )
    reader: str | None = Field(
        None,
        description="Column with the reader; readers are numbered in the order of their names (reader-1) and stand "
        "where other rows have the mask source.",
    )

    def keys(self) -> dict[str, str]:
        """What a column tells: its name in the table."""
        return {key: name for key, name in self.model_dump().items() if name is not None}


class LongShape(Section):
    """A table with a row per patient and feature."""

    feature: str = Field(description="Column with the name of the feature.")
    value: str = Field(description="Column with its value.")


class Renaming(Section):
    """A pattern of column names and what to call them."""

    match: str = Field(description="Regular expression that a whole column name matches, such as `LIFEx_(.+)`.")
    to: str = Field(description="The new name; \\1 stands for the first group of the expression.")

    @model_validator(mode="after")
    def _compiles(self) -> Renaming:
        try:
            groups = re.compile(self.match).groups
        except re.error as error:
            raise ValueError(f"match: {self.match!r} is no regular expression: {error}") from None
        used = [int(n) for n in re.findall(r"\\(\d)", self.to)]
        if max(used, default=0) > groups:
            raise ValueError(f"to: {self.to!r} uses group {max(used)}, but match has {groups} in parentheses")
        return self


class Chosen(Section):
    """Patients whose outcomes were used, elsewhere, to choose the features of a table."""

    centres: tuple[Name, ...] = Field((), description="Everybody of these centres.")
    rows: dict[str, tuple[str, ...]] = Field(
        {},
        description="The patients of rows whose column has one of these values, such as {cohort: [discovery]}; the "
        "column is no feature.",
    )

    @model_validator(mode="after")
    def _somebody(self) -> Chosen:
        if not self.centres and not any(self.rows.values()):
            raise ValueError("write `nobody`, `everybody`, `{centres: [...]}` or `{rows: {<column>: [...]}}`")
        return self


class ImportedSet(Section):
    """A feature table that was made elsewhere, by whatever tool or by people."""

    kind: Literal["imported"] = Field(description="Which kind of feature set this is.")
    table: str | tuple[str, ...] | dict[Name, str] = Field(
        description="CSV, TSV, XLSX or Parquet file; several files, whose rows follow one another; or the file of each "
        "centre by the centre's name."
    )
    source: Source | None = Field(None, description="Where the table comes from and under which licence.")
    sheet: str | None = Field(None, description="Sheet of XLSX files; null: the first.")
    encoding: str | None = Field(
        None, description="Encoding of CSV and TSV files, such as utf-8 or latin-1; null finds UTF-8, UTF-16 or cp1252."
    )
    decimal: Literal[".", ","] = Field(".", description="What separates decimals in text files.")
    missing: tuple[str, ...] = Field(
        ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "#N/A", "?"),
        description="Texts that mean a missing value.",
    )
    columns: ImportedColumns = Field(ImportedColumns(), description="Columns that say whose row it is.")
    centre: Name | None = Field(None, description="Centre of all rows; null where columns.centre or table tells it.")
    patient_pattern: str | None = Field(
        None, description="Regular expression whose first group is the identifier within the patient column."
    )
    centre_pattern: str | None = Field(
        None, description="Regular expression whose first group is the centre's name within the centre column."
    )
    roi_pattern: str | None = Field(
        None, description="Regular expression whose first group is the name within the ROI column."
    )
    rois: tuple[str, ...] = Field((), description="ROIs that are taken; empty: all.")
    only: dict[str, tuple[str, ...]] = Field(
        {}, description="Only rows whose column has one of these values, such as {sequence: [T1]}; by column."
    )
    long: LongShape | None = Field(
        None, description="For a table with a row per patient and feature; null: a column per feature."
    )
    drop: tuple[str, ...] = Field(
        ("diagnostics_*", "Unnamed:*"),
        description="Columns (of a long table: features) that are no features, by the table's names, with * and ? as "
        "wildcards.",
    )
    take: tuple[str, ...] = Field(
        (), description="Only these columns are features, with * and ? as wildcards; empty: all but those of `drop`."
    )
    rename: dict[str, str] = Field({}, description="New names of features by their names in the table.")
    patterns: tuple[Renaming, ...] = Field(
        (), description="Patterns that rename features that `rename` does not name; the first that matches counts."
    )
    factors: dict[str, float] = Field(
        {},
        description="Factors that turn the table's units into ours, by the new name with * and ? as wildcards, such as "
        "{original_shape_MeshVolume: 1000} for a volume in mL.",
    )
    coding: dict[str, ColumnSettings] = Field(
        {},
        description="Features that are no plain numbers, or whose values are checked, by the new name: ordinal, binary "
        "and categorical scores. Columns of text must stand here or under drop.",
    )
    chosen_on: Literal["nobody", "everybody"] | Chosen | None = Field(
        None,
        description="Whose outcomes were used to choose these features before they came here: `nobody` (all that a "
        "recipe gives, or a published signature), `everybody` in the table, or some of them; they enter the ledger of "
        "the set, and no model of these features is evaluated on them. null: not known, which every analysis says.",
    )
    duplicates: Literal["first", "error"] = Field(
        "error",
        description="What to do where a patient, scan, ROI and reader have several rows: take the first and code the "
        "others as rejected, or stop.",
    )

    @property
    def files(self) -> tuple[tuple[str, str | None], ...]:
        """Every file with the centre of its rows, if the study file tells it."""
        if isinstance(self.table, dict):
            return tuple((self.table[centre], centre) for centre in sorted(self.table))
        return tuple((path, self.centre) for path in ((self.table,) if isinstance(self.table, str) else self.table))

    @property
    def nominal(self) -> list[str]:
        """Features that are categories without an order."""
        return [name for name, column in self.coding.items() if column.type == "categorical"]

    @model_validator(mode="after")
    def _check(self) -> ImportedSet:
        told = [self.centre is not None, self.columns.centre is not None, isinstance(self.table, dict)]
        if told.count(True) != 1:
            raise ValueError(
                "write one of `centre: <name>`, `columns: {centre: <column>}` or `table: {<centre>: <file>, ...}` for "
                "an imported table"
            )
        if not self.files:
            raise ValueError("table: write at least one file")
        for pattern, column in (("centre_pattern", "centre"), ("roi_pattern", "roi")):
            if getattr(self, pattern) is not None and getattr(self.columns, column) is None:
                raise ValueError(f"{pattern} looks into a column; write columns: {{{column}: <column>}}")
        for key in ("patient_pattern", "centre_pattern", "roi_pattern"):
            _one_group(key, getattr(self, key))
        if any(column.column for column in self.coding.values()):
            raise ValueError("coding: the name in the file belongs under `rename: {<name in the file>: <name>}`")
        known = {centre for _, centre in self.files if centre}
        if isinstance(self.chosen_on, Chosen) and known and (wrong := sorted({*self.chosen_on.centres} - known)):
            raise ValueError(f"chosen_on: centres: {wrong} have no rows here: write some of {sorted(known)}")
        if zero := [name for name, factor in self.factors.items() if factor == 0]:
            raise ValueError(f"factors: {zero} must not be 0")
        return self


def _one_group(key: str, pattern: str | None) -> None:
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{key}: {pattern!r} is no regular expression: {error}") from None
    if groups < 1:
        raise ValueError(f"{key}: {pattern!r} needs a group in parentheses around the part to keep")


class JoinedSet(Section):
    """Feature sets side by side, one row per patient: radiomics with semantic scores, several sequences, ..."""

    kind: Literal["joined"] = Field(description="Which kind of feature set this is.")
    of: tuple[Name, ...] = Field(
        min_length=2, description="Feature sets; a feature is then called `<set>: <its name>`."
    )
    aggregate: Literal["mean", "median", "maximum", "minimum"] = Field(
        "mean",
        description="How several rows of one patient (scans, regions, readers) become one value per feature; "
        "categories that differ become missing.",
    )
    incomplete: Literal["reject", "keep"] = Field(
        "reject",
        description="Patients without a row in one of the sets: reject their row, or keep it with missing values, "
        "which every analysis imputes.",
    )

    @model_validator(mode="after")
    def _check(self) -> JoinedSet:
        if len(set(self.of)) < len(self.of):
            raise ValueError(f"of: {list(self.of)} names something twice: write each set once")
        return self


class Phantom(Section):
    """Scans without biological differences: phantoms, or patients scanned again, at the settings of the cohort."""

    features: Name | None = Field(None, description="Feature set with their rows; null: the set that is harmonised.")
    where: Expression | None = Field(
        None, description="Which scans they are, such as \"centre == 'phantom'\"; null: all of their feature set."
    )
    ccc: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="Concordance correlation that a feature must exceed: between repeats within a batch, and between "
        "batches, before or after harmonisation.",
    )

    @model_validator(mode="after")
    def _check(self) -> Phantom:
        if self.features is None and self.where is None:
            raise ValueError("phantom: write where: <condition>, or features: <set> if they have a set of their own")
        return self


class HarmonisedSet(Section):
    """A feature set made from another one by removing differences between batches."""

    kind: Literal["harmonised"] = Field(description="Which kind of feature set this is.")
    of: Name = Field(description="Feature set that is harmonised.")
    split: Name = Field(description="Split whose training part fits the harmonisation.")
    method: Literal["combat"] = Field("combat", description="Method of harmonisation.")
    fit: Literal["patients", "phantom"] = Field(
        "patients",
        description="Whose rows give location and scale: training patients; or phantom scans, after which only "
        "features stay that agree between batches without or with harmonisation.",
    )
    batch: str | tuple[str, ...] = Field(
        "centre",
        description="What tells batches apart: centre, or columns of the scans (manufacturer, model, kernel) or of the "
        "clinical table (protocol); several together make one batch.",
    )
    covariates: tuple[str, ...] = Field(
        (), description="Clinical columns whose effect is preserved; never the outcome of an analysis."
    )
    scale: Literal["original", "normal-scores"] = Field(
        "original",
        description="Harmonise values as they are, or their normal scores among the training rows of the region: for "
        "skewed features, whose floor and tail would otherwise give the batch away to a tree. The result stays in "
        "normal scores.",
    )
    parametric: bool = Field(True, description="Parametric priors; false: non-parametric ones.")
    mean_only: bool = Field(False, description="Adjust means only, not variances.")
    unseen: Literal["error", "identity", "phantom"] = Field(
        "error",
        description="Rows of a batch without rows in the fit: stop, leave them as they are, or take location and scale "
        "from phantom scans.",
    )
    reference: str | None = Field(None, description="Batch that stays as it is; null: all move to the common mean.")
    phantom: Phantom | None = Field(None, description="Phantom scans, for fit: phantom or unseen: phantom.")

    @property
    def batches(self) -> tuple[str, ...]:
        return (self.batch,) if isinstance(self.batch, str) else self.batch

    @model_validator(mode="after")
    def _check(self) -> HarmonisedSet:
        needed = self.fit == "phantom" or self.unseen == "phantom"
        if needed != (self.phantom is not None):
            raise ValueError(
                "phantom: say which scans are phantoms, as in {where: \"centre == 'phantom'\"}"
                if needed
                else "phantom: scans are named but not used; write fit: phantom or unseen: phantom"
            )
        if self.fit == "phantom" and self.unseen == "phantom":
            raise ValueError("unseen: with fit: phantom all batches come from phantoms; write error or identity")
        if needed and self.scale != "original":
            raise ValueError("scale: phantoms and patients have other ranks; write scale: original")
        if self.fit == "phantom" and self.covariates:
            raise ValueError("covariates: phantoms have none; remove them, or write fit: patients")
        if not self.batches:
            raise ValueError("batch: write centre or a column that tells batches apart")
        return self


def _kind(value: Any) -> str:
    return value.get("kind", "radiomics") if isinstance(value, dict) else value.kind


FeatureSet = Annotated[
    Annotated[RadiomicsSet, Tag("radiomics")]
    | Annotated[ImportedSet, Tag("imported")]
    | Annotated[JoinedSet, Tag("joined")]
    | Annotated[HarmonisedSet, Tag("harmonised")]
    | Annotated[SelectedSet, Tag("selected")],
    Discriminator(
        _kind,
        custom_error_type="feature_set_kind",
        custom_error_message="kind must be radiomics, imported, joined, harmonised or selected",
    ),
]
