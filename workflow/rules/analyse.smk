# Analyses: each a question of the study file with its method. All write the same files.


def analysis_outputs(category):
    folder = result("analyses/{analysis}")
    return {
        "metrics": f"{folder}/metrics.json",
        "manifest": f"{folder}/manifest.tsv",
        "ledger": f"{folder}/ledger.json",
        "figure": report(
            f"{folder}/figures/summary.svg",
            caption="../report/analysis.rst",
            category=category,
            labels={"analysis": "{analysis}"},
        ),
    }


rule describe:
    input:
        patients=result("cohort/patients.tsv"),
        scans=result("cohort/scans.tsv"),
        split=analysis_split,
    output:
        **analysis_outputs("Cohort"),
    params:
        settings=settings("describe"),
        code=code("describe"),
        root=study.root,
    log:
        logfile("describe", "{analysis}"),
    benchmark:
        timing("describe", "{analysis}")
    conda:
        "../../envs/statistics.yaml"
    wildcard_constraints:
        analysis=any_of(analyses_of("cohort")),
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    script:
        "../scripts/describe.py"


rule classify:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
    output:
        **analysis_outputs("Classification"),
        predictions=result("analyses/{analysis}/predictions.parquet"),
    params:
        settings=settings("classify"),
        code=code("classify"),
        root=study.root,
    log:
        logfile("classify", "{analysis}"),
    benchmark:
        timing("classify", "{analysis}")
    conda:
        "../../envs/statistics.yaml"
    wildcard_constraints:
        analysis=any_of(analyses_of("classification")),
    threads: 1
    resources:
        mem_mb=memory(3000, per_input_mb=20),
        runtime=minutes(480),
    script:
        "../scripts/classify.py"


rule survive:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
    output:
        **analysis_outputs("Survival"),
        predictions=result("analyses/{analysis}/predictions.parquet"),
    params:
        settings=settings("survive"),
        code=code("survive"),
        root=study.root,
    log:
        logfile("survive", "{analysis}"),
    benchmark:
        timing("survive", "{analysis}")
    conda:
        "../../envs/statistics.yaml"
    wildcard_constraints:
        analysis=any_of(analyses_of("survival")),
    threads: 1
    resources:
        mem_mb=memory(3000, per_input_mb=20),
        runtime=minutes(480),
    script:
        "../scripts/survive.py"


def fidelity_model(wildcards):
    return study.analyses[wildcards.analysis].synthesis


def fidelity_source(wildcards):
    return views([study.synthesis[fidelity_model(wildcards)].source.view], study.shards)


def fidelity_target(wildcards):
    return views([study.synthesis[fidelity_model(wildcards)].target.view], study.shards)


def fidelity_synthetic(wildcards):
    return views([study.fidelity_view(study.analyses[wildcards.analysis])], study.shards)


rule fidelity:
    input:
        source=fidelity_source,
        target=fidelity_target,
        synthetic=fidelity_synthetic,
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.synthesis[fidelity_model(wildcards)].split),
        ledgers=lambda wildcards: ledgers([fidelity_model(wildcards)]),
    output:
        **analysis_outputs("Synthesis"),
    params:
        settings=settings("fidelity"),
        code=code("fidelity"),
        root=study.root,
    log:
        logfile("fidelity", "{analysis}"),
    benchmark:
        timing("fidelity", "{analysis}")
    conda:
        "../../envs/images.yaml"
    wildcard_constraints:
        analysis=any_of(analyses_of("synthesis-fidelity")),
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
    script:
        "../scripts/fidelity.py"


def judged_model(wildcards):
    return study.analyses[wildcards.analysis].segmentation


def judged_masks(wildcards):
    return masks(judged_model(wildcards), study.shards)


def reference_masks(wildcards):
    return masks(study.analyses[wildcards.analysis].reference, study.shards)


def mask_ledgers(wildcards):
    return ledgers(study.models_of_masks(judged_model(wildcards)))


def mask_split(wildcards):
    return split_table(study.segmentation[judged_model(wildcards)].split)


rule segmentation_quality:
    input:
        masks=judged_masks,
        reference=reference_masks,
        volumes=volumes(study.shards),
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=mask_split,
        ledgers=mask_ledgers,
    output:
        **analysis_outputs("Segmentation"),
    params:
        settings=settings("segmentation_quality"),
        code=code("segmentation_quality"),
        root=study.root,
    log:
        logfile("segmentation_quality", "{analysis}"),
    benchmark:
        timing("segmentation_quality", "{analysis}")
    conda:
        "../../envs/images.yaml"
    wildcard_constraints:
        analysis=any_of(analyses_of("segmentation-quality")),
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
    script:
        "../scripts/segmentation_quality.py"


def agreement_masks(wildcards):
    """Mask manifests of the extracted sets, for volumes."""
    sets = [study.features[name] for name in features_of(study.analyses[wildcards.analysis])]
    sources = dict.fromkeys(s.masks for s in sets if isinstance(s, RadiomicsSet))
    return [path for source in sources for path in masks(source, study.shards)]


def known_volumes(wildcards):
    path = study.analyses[wildcards.analysis].volumes
    return [path] if path else []


rule feature_agreement:
    input:
        features=feature_tables,
        masks=agreement_masks,
        volumes=known_volumes,
        key=private("salt.sha256"),
    output:
        **analysis_outputs("Features"),
    params:
        settings=settings("feature_agreement"),
        code=code("feature_agreement"),
        root=study.root,
        salt=private("salt"),
    log:
        logfile("feature_agreement", "{analysis}"),
    benchmark:
        timing("feature_agreement", "{analysis}")
    conda:
        "../../envs/radiomics.yaml"
    wildcard_constraints:
        analysis=any_of(analyses_of("feature-agreement")),
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(15),
    script:
        "../scripts/feature_agreement.py"
