"""Published studies of synthesis as settings: seven set-ups of MR to CT in one study, and the two others."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from polycentric.config import plan
from polycentric.config.study import Study, load
from polycentric.config.synthesis import Synthesis
from polycentric.networks.layers import parameters
from polycentric.synthesis import cyclegan

SETUPS = """
study: mri-to-ct
curation: {preset: abdomen-ct-mr}
splits: {images: {test: 0.25, stratify: [centre]}}
views:
  ct:
    {from: scan, where: modality == 'CT', spacing_mm: [1.5, 1.5, 0], steps: [{kind: crop-or-pad, size: [256, 256, 0]}]}
  scaled: {from: scan, where: modality == 'MR', steps: [{kind: min-max, percentiles: [0.5, 99.5], output: [0, 1]}]}
  mr: {from: scaled, spacing_mm: [1.5, 1.5, 0], steps: [{kind: crop-or-pad, size: [256, 256, 0]}]}
  moved: {from: scaled, onto: {where: sequence == 'in-phase', within: patient}}
  stack: {from: moved, spacing_mm: [1.5, 1.5, 0], steps: [{kind: crop-or-pad, size: [256, 256, 0]}]}
  made-in-phase: {from: mr, synthesis: in-phase}
  made-all-in: {from: mr, synthesis: all-in}
  made-in-phase-plus: {from: mr, synthesis: in-phase-plus}
  made-t2: {from: mr, synthesis: t2}
  made-in-n-out: {from: stack, synthesis: in-n-out}
  made-in-n-out-native: {from: stack, synthesis: in-n-out-native}
  made-triple: {from: stack, synthesis: triple}
synthesis:
  in-phase: &single
    split: images
    dimensions: 2
    patch: [256, 256]
    source: {view: mr, where: centre == 'chaos' and sequence == 'in-phase', range: [0, 1]}
    target: {view: ct, where: centre == 'chaos'}
  all-in:
    <<: *single
    source:
      {view: mr, where: centre == 'chaos' and (sequence == 'in-phase' or sequence == 'out-of-phase'), range: [0, 1]}
  in-phase-plus:
    <<: *single
    source: {view: mr, where: (centre == 'chaos' and sequence == 'in-phase') or centre == 'more', range: [0, 1]}
  t2: {<<: *single, source: {view: mr, where: centre == 'chaos' and sequence == 'T2', range: [0, 1]}}
  in-n-out: &several
    <<: *single
    source: &two
      view: stack
      where: centre == 'chaos' and sequence == 'in-phase'
      range: [0, 1]
      also: [&out {view: stack, where: sequence == 'out-of-phase', within: patient}]
    losses: {identity: 0}
  in-n-out-native: {<<: *several, target: {view: ct, where: centre == 'hospital'}}
  triple: {<<: *several, source: {<<: *two, also: [*out, {view: stack, where: sequence == 'T2', within: patient}]}}
profiles: {default: {landmarks: diaphragm-to-pelvis}}
analyses:
  models:
    kind: synthesis-comparison
    synthesis: [in-phase, all-in, in-phase-plus, t2, in-n-out, in-n-out-native, triple]
    source: false
  windows: {kind: synthesis-probe, synthesis: in-n-out}
  all: {kind: synthesis-summary}
"""
# inputs; weights of the forward and of the backward generator by the sums in docs/synthesis.md
EXPECTED = {
    "in-phase": (1, 11_365_633, 11_365_633),
    "all-in": (1, 11_365_633, 11_365_633),
    "in-phase-plus": (1, 11_365_633, 11_365_633),
    "t2": (1, 11_365_633, 11_365_633),
    "in-n-out": (2, 16_589_825, 11_368_770),
    "in-n-out-native": (2, 16_589_825, 11_368_770),
    "triple": (3, 21_748_225, 11_371_907),
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    raw = yaml.safe_load(SETUPS)
    raw["centres"] = {name: {"images": str(tmp_path / name)} for name in ("chaos", "more", "hospital")}
    for name in raw["centres"]:
        (tmp_path / name).mkdir()
    return load(raw)


def test_seven_set_ups_are_one_study(study: Study) -> None:
    assert list(study.synthesis) == list(EXPECTED)
    for name, (inputs, forward, backward) in EXPECTED.items():
        settings = study.synthesis[name]
        assert settings.inputs == inputs
        # one discriminator for each sequence and one for CT, each sees 70 x 70 (Crespi 2024)
        assert len(cyclegan.judges(settings.inputs)) == inputs + 1
        assert (settings.discriminator.layers, settings.discriminator.flat) == (3, 1)
        assert parameters(cyclegan.generator(settings, "forward")) == forward
        assert parameters(cyclegan.generator(settings, "backward")) == backward


def test_one_comparison_and_one_table_judge_all_seven(study: Study) -> None:
    made = study.judged("models")
    assert made == {name: f"made-{name}" for name in EXPECTED}
    assert study.summarised("all") == ["models", "windows"]
    assert study.summarised_models("all") == list(EXPECTED)
    job = plan.compare_synthesis(study, {"analysis": "models"})
    # each against its own CT set
    assert {name: own["target"]["where"] for name, own in job["synthesis"].items()} == {
        name: "centre == 'hospital'" if name == "in-n-out-native" else "centre == 'chaos'" for name in EXPECTED
    }


def test_contrast_homogenisation_and_style_transfer_are_settings() -> None:
    domains = {"split": "s", "source": {"view": "a"}, "target": {"view": "b"}}
    kalantar = Synthesis(
        **domains,
        generator={"padding": "reflect"},
        discriminator={"flat": 0, "norm_first": True, "slope": 0, "sigmoid": True},
        losses={
            "adversarial": "minimax",
            "discriminator": "least-squares",
            "cycle": {"forward": 1, "backward": 1, "measure": "mean"},
            "identity": 10,
        },
        inference={"stride": [16, 16, 16]},
    )
    assert (kalantar.iterations, kalantar.learning_rate, kalantar.batch) == (450_000, 2e-4, 1)
    assert kalantar.patch == (64, 64, 64)
    assert parameters(cyclegan.generator(kalantar)) == 34_111_489
    assert parameters(cyclegan.discriminator(kalantar)) == 2_642_369
    jiang = Synthesis(
        **domains,
        dimensions=2,
        patch=[256, 256],
        batch=4,
        augment={"flip": ["x"], "rotate_degrees": [-15, 15], "scale": [0.9, 1.1], "crop": [0.8, 1]},
        losses={"adversarial": "bce", "identity": 0, "cycle": {"forward": 10, "backward": 5}},
    )
    assert parameters(cyclegan.generator(jiang)) == 11_365_633
