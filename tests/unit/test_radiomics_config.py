"""Recipes: ours, PyRadiomics' own files, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from polycentric.config.features import RECIPES, FeatureSet, Recipe, find_recipe, load_recipe
from polycentric.errors import UserError
from polycentric.radiomics import extract
from polycentric.volumes import Volume
from pydantic import TypeAdapter, ValidationError
from radiomics import featureextractor

EXAMPLE = """
imageType:
  Original: {}
  LoG: {sigma: [2, 3.5]}
  Wavelet: {}
  Square: {}
featureClass:
  shape:
  firstorder: [Mean, Energy]
  glcm:
  gldm: []
setting:
  binWidth: 20
  resampledPixelSpacing: [2, 2, 2]
  interpolator: sitkLinear
  resegmentRange: [-2, 3]
  resegmentMode: sigma
  normalize: true
  normalizeScale: 100
  voxelArrayShift: 300
  gldm_a: 1
  label: 1
"""


def textured(seed: int = 0, size: int = 24) -> tuple[Volume, Volume]:
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.normal(0, 100, (size, size, size)).astype(np.float32))
    image = sitk.Cast(sitk.DiscreteGaussian(image, 1.5) * 8, sitk.sitkInt16)
    image.SetSpacing((1.3, 1.3, 2.5))
    z, y, x = np.indices((size,) * 3) - size / 2 + 0.5
    mask = (x**2 + y**2 + 2 * z**2 < (size / 3) ** 2).astype(np.uint8)
    volume = Volume.from_sitk(image)
    return volume, Volume(mask, volume.geometry)


def test_pyradiomics_file_gives_pyradiomics_values(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(EXAMPLE)
    image, mask = textured()
    recipe = load_recipe(path)
    assert recipe.grid == "pyradiomics"
    values = extract(image, mask, recipe).values
    exact = extract(image, mask, recipe.model_copy(update={"engine": "pyradiomics"})).values
    theirs = featureextractor.RadiomicsFeatureExtractor(str(path)).execute(image.to_sitk(), mask.to_sitk())
    expected = {k: float(v) for k, v in theirs.items() if not k.startswith("diagnostics_")}
    assert list(values) == list(expected)
    assert len(values) > 300
    np.testing.assert_allclose(list(values.values()), list(expected.values()), rtol=1e-9)
    assert exact == expected


def test_stored_recipes_load_and_survive_json():
    found = sorted(p.stem for p in RECIPES.glob("*.yaml"))
    assert {"ct-25hu", "lung1-authors", "toy"} <= {*found}
    for name in found:
        recipe = load_recipe(find_recipe(name))
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_example_of_real_data_loads(realdata):
    recipe = load_recipe(realdata("lung1") / "example_ct_parameters.yaml")
    assert (recipe.grid, recipe.bin_width, recipe.voxel_array_shift) == ("pyradiomics", 25, 1000)
    assert {*recipe.classes} == {"shape", "firstorder", "glrlm", "glszm", "gldm"}


def test_authors_recipe_is_what_their_table_records(realdata):
    pd = pytest.importorskip("pandas")
    row = pd.read_excel(realdata("lung1") / "pyradiomics_features.xlsx", nrows=1).iloc[0]
    data = yaml.safe_load((RECIPES / "lung1-authors.yaml").read_text())
    assert data["setting"] == yaml.safe_load(row["diagnostics_Configuration_Settings"].replace("None", "null"))
    assert data["imageType"] == yaml.safe_load(row["diagnostics_Configuration_EnabledImageTypes"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bin_width: 25\nbin_count: 32", "exclude each other"),
        ("binwidth: 25", "binwidth"),
        ("resegment_range: [400, -1000]", "lower bound first"),
        ("classes: [glcm, colour]", "classes.colour"),
        ("classes: {glcm: [Contrst]}", "write Contrast"),
        ("original: false", "image type"),
        ("further_settings: {normalize: true}", "keys of their own"),
        ("setting: {binWidth: 25}\nrecipe: x", "no keys of a PyRadiomics"),
        ("setting: {binWidth: -1}", "greater than 0"),
    ],
)
def test_mistakes_are_told(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(path)


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(UserError, match="lung1-authors"):
        find_recipe("ct-25")


def test_feature_sets_are_told_apart():
    adapter = TypeAdapter(dict[str, FeatureSet])
    sets = adapter.validate_python(
        {
            "mixed": {"view": "ct", "masks": "manual", "recipe": "ct-25hu"},
            "theirs": {"kind": "imported", "table": "a.csv", "centre": "north"},
            "combat": {"kind": "harmonised", "of": "mixed", "split": "covid"},
        }
    )
    assert [s.kind for s in sets.values()] == ["radiomics", "imported", "harmonised"]
    with pytest.raises(ValidationError, match="must be radiomics, imported, joined, harmonised or selected"):
        adapter.validate_python({"a": {"kind": "deep"}})
    with pytest.raises(ValidationError, match="write one of `centre: <name>`"):
        adapter.validate_python({"a": {"kind": "imported", "table": "a.csv"}})
