from pathlib import Path

from polycentric.tools.clean import clean

STUDY = {
    "centres": {"north": {"shards": 2, "simulate": None}},
    "splits": {"main": {}},
    "convert": {"sources": {"manual": {}}},
    "views": {"ct": {"fit": None}, "scaled": {"fit": {"split": "main"}}},
    "synthesis": {},
    "segmentation": {"unet": {}},
    "features": {"mixed": {"kind": "radiomics"}, "theirs": {"kind": "imported"}},
    "analyses": {"survival": {"permutations": 20, "permutation_shards": 2}, "cohort": {}},
    "readers": {},
    "profiles": {"default": {}},
    "exports": {"pacs": {"kind": "dicom", "view": "ct"}, "slicer": {"kind": "nrrd", "view": "scan"}},
}


def test_what_the_study_lists_stays_and_the_rest_goes(tmp_path: Path) -> None:
    keep = [
        "cohort/examined/north-0.tsv", "quicklook/north-1.tsv", "shareable/deidentification.json", "models/scaled/x",
        "models/theirs/main/ledger.json",
        "profiles/default/ct/main/north-0.tsv", "dicom/ct/main/north-0.tsv",
        "nrrd/slicer/north-0.tsv", "nrrd/slicer/north-0/V-1.nrrd", "features/mixed.perturbed.parquet",
        "volumes/north-0.tsv", "volumes/north-1/V-1.nii", "views/ct/main/north-0.tsv",
        "masks/manual/main/north-0/a.nii",
        "masks/unet/main/north-1.tsv", "features/mixed.parquet", "features/mixed/north-0.parquet",
        "analyses/survival/permutations/1.tsv",
        "analyses/survival/metrics.json", "models/unet/main/weights.safetensors", "cohort/splits/main.tsv",
        "cohort/scans.tsv", "report/report.html",
    ]  # fmt: skip
    gone = [
        "volumes/north-2.tsv", "volumes/south-0/V-2.nii", "views/old/main/north-0.tsv", "views/ct/main/south-0.tsv",
        "masks/old/main/north-0.tsv", "features/old.parquet", "features/old.perturbed.parquet",
        "nrrd/slicer/south-0.tsv", "nrrd/pacs/north-0.tsv", "dicom/scan/main/north-0.tsv", "analyses/old/metrics.json",
        "analyses/survival/permutations/2.tsv",
        "models/old/main/ledger.json",
        "cohort/splits/old.tsv", "readers/old/items.tsv",
    ]  # fmt: skip
    for name in (*keep, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    begun = tmp_path / "analyses" / "survival" / ".tmp-x-figure.svg"
    begun.touch()
    assert begun in clean(STUDY, tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == sorted(keep)
    assert clean(STUDY, tmp_path) == []
