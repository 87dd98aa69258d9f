# Analyses: each a question of the study file with its method. All write the same files.


rule describe:
    input:
        patients=result("cohort/patients.tsv"),
        scans=result("cohort/scans.tsv"),
        split=analysis_split,
    output:
        **analysis_outputs("Cohort"),
    log:
        logfile("describe", "{analysis}"),
    benchmark:
        timing("describe", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("cohort")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(15),
    params:
        settings=settings("describe"),
        code=code("describe"),
        root=results_root,
    script:
        "../scripts/describe.py"


# Null distributions: runs of whole chains with permuted outcomes, divided among jobs.
rule permute_outcomes:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
    output:
        values=result("analyses/{analysis}/permutations/{shard}.tsv"),
    log:
        logfile("permute_outcomes", "{analysis}", "{shard}"),
    benchmark:
        timing("permute_outcomes", "{analysis}", "{shard}")
    wildcard_constraints:
        analysis=any_of(analyses_of("classification")),
        shard=r"\d+",
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(480),
    params:
        settings=settings("permute_outcomes"),
        code=code("permute_outcomes"),
    script:
        "../scripts/permute_outcomes.py"


rule classify:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        scans=result("cohort/scans.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
        permutations=permutation_tables,
    output:
        **analysis_outputs("Classification"),
        predictions=result("analyses/{analysis}/predictions.parquet"),
    log:
        logfile("classify", "{analysis}"),
    benchmark:
        timing("classify", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("classification")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(3000, per_input_mb=20),
        runtime=minutes(480),
    params:
        settings=settings("classify"),
        code=code("classify"),
        root=results_root,
    script:
        "../scripts/classify.py"


rule permute_follow_up:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
    output:
        values=result("analyses/{analysis}/permutations/{shard}.tsv"),
    log:
        logfile("permute_follow_up", "{analysis}", "{shard}"),
    benchmark:
        timing("permute_follow_up", "{analysis}", "{shard}")
    wildcard_constraints:
        analysis=any_of(analyses_of("survival")),
        shard=r"\d+",
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(480),
    params:
        settings=settings("permute_follow_up"),
        code=code("permute_follow_up"),
    script:
        "../scripts/permute_follow_up.py"


rule survive:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        scans=result("cohort/scans.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
        permutations=permutation_tables,
    output:
        **analysis_outputs("Survival"),
        predictions=result("analyses/{analysis}/predictions.parquet"),
    log:
        logfile("survive", "{analysis}"),
    benchmark:
        timing("survive", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("survival")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(3000, per_input_mb=20),
        runtime=minutes(480),
    params:
        settings=settings("survive"),
        code=code("survive"),
        root=results_root,
    script:
        "../scripts/survive.py"


rule fidelity:
    input:
        source=fidelity_source,
        target=fidelity_target,
        synthetic=fidelity_synthetic,
        masks=fidelity_masks,
        masks_after=fidelity_masks_after,
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.synthesis[fidelity_model(wildcards)].split),
        ledgers=lambda wildcards: ledgers([fidelity_model(wildcards)]),
        held=held("fidelity", "analysis"),
    output:
        **analysis_outputs("Synthesis"),
    log:
        logfile("fidelity", "{analysis}"),
    benchmark:
        timing("fidelity", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("synthesis-fidelity")),
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
    params:
        settings=settings("fidelity"),
        code=code("fidelity"),
        root=results_root,
    script:
        "../scripts/fidelity.py"


rule segmentation_quality:
    input:
        masks=judged_masks,
        reference=reference_masks,
        split=mask_split,
        ledgers=mask_ledgers,
    output:
        **analysis_outputs("Segmentation"),
    log:
        logfile("segmentation_quality", "{analysis}"),
    benchmark:
        timing("segmentation_quality", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("segmentation-quality")),
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
    params:
        settings=settings("segmentation_quality"),
        code=code("segmentation_quality"),
        root=results_root,
    script:
        "../scripts/segmentation_quality.py"


rule feature_agreement:
    input:
        features=feature_tables,
        masks=agreement_masks,
        volumes=known_volumes,
        key=private("fingerprint.sha256"),
    output:
        **analysis_outputs("Features"),
    log:
        private_log("feature_agreement", "{analysis}"),
    benchmark:
        timing("feature_agreement", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("feature-agreement")),
    conda:
        "../../envs/radiomics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(15),
    params:
        settings=settings("feature_agreement"),
        code=code("feature_agreement"),
        root=results_root,
        salt=private("salt"),
    script:
        "../scripts/feature_agreement.py"


rule stability:
    input:
        features=feature_tables,
        perturbed=perturbed_tables,
        scans=result("cohort/scans.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
    output:
        **analysis_outputs("Features"),
        stable=result("analyses/{analysis}/stable.tsv"),
    log:
        logfile("stability", "{analysis}"),
    benchmark:
        timing("stability", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("stability")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(60),
    params:
        settings=settings("stability"),
        code=code("stability"),
        root=results_root,
    script:
        "../scripts/stability.py"


rule harmonisation:
    input:
        features=feature_tables,
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=analysis_split,
        parameters=harmonisation_parameters,
        ledgers=feature_ledgers,
    output:
        **analysis_outputs("Features"),
    log:
        logfile("harmonisation", "{analysis}"),
    benchmark:
        timing("harmonisation", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("harmonisation")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(60),
    params:
        settings=settings("harmonisation"),
        code=code("harmonisation"),
        root=results_root,
    script:
        "../scripts/harmonisation.py"


# Readers, methods or repeats: columns of the patient table, or a feature set with readers.
rule agree:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        ledgers=feature_ledgers,
    output:
        **analysis_outputs("Agreement"),
    log:
        logfile("agree", "{analysis}"),
    benchmark:
        timing("agree", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("agreement")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(60),
    params:
        settings=settings("agree"),
        code=code("agree"),
        root=results_root,
    script:
        "../scripts/agree.py"


rule survey:
    input:
        answers=survey_answers,
    output:
        **analysis_outputs("Agreement"),
    log:
        logfile("survey", "{analysis}"),
    benchmark:
        timing("survey", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("survey")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        settings=settings("survey"),
        code=code("survey"),
        root=results_root,
    script:
        "../scripts/survey.py"


rule associate:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
    output:
        **analysis_outputs("Features"),
    log:
        logfile("associate", "{analysis}"),
    benchmark:
        timing("associate", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("association")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(60),
    params:
        settings=settings("associate"),
        code=code("associate"),
        root=results_root,
    script:
        "../scripts/associate.py"


rule mask_agreement:
    input:
        masks=compared_masks,
        split=analysis_split,
        ledgers=compared_mask_ledgers,
    output:
        **analysis_outputs("Agreement"),
    log:
        logfile("mask_agreement", "{analysis}"),
    benchmark:
        timing("mask_agreement", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("mask-agreement")),
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(3000),
        runtime=minutes(120),
    params:
        settings=settings("mask_agreement"),
        code=code("mask_agreement"),
        root=results_root,
    script:
        "../scripts/mask_agreement.py"


rule explore:
    input:
        features=feature_tables,
        patients=result("cohort/patients.tsv"),
        split=analysis_split,
        ledgers=feature_ledgers,
    output:
        **analysis_outputs("Features"),
    log:
        logfile("explore", "{analysis}"),
    benchmark:
        timing("explore", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("exploration")),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(60),
    params:
        settings=settings("explore"),
        code=code("explore"),
        root=results_root,
    script:
        "../scripts/explore.py"


# The axial slices of a view, described once for all models that are compared with them.
rule profile_images:
    input:
        view=view_manifest("{view}", "{fold}", "{shard}"),
        splits=profile_splits,
        held=held("profile_images", "profile", "view"),
    output:
        manifest=result("profiles/{profile}/{view}/{fold}/{shard}.tsv"),
    log:
        logfile("profile_images", "{profile}", "{view}", "{fold}", "{shard}"),
    benchmark:
        timing("profile_images", "{profile}", "{view}", "{fold}", "{shard}")
    wildcard_constraints:
        profile=any_of(study.profiles),
        view=any_of(study.views),
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=memory(2500),
        runtime=minutes(120),
    params:
        settings=settings("profile_images"),
        code=code("profile_images"),
        root=results_root,
    script:
        "../scripts/profile_images.py"


rule compare_synthesis:
    input:
        profiles=compared_profiles,
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        splits=compared_splits,
        ledgers=compared_ledgers,
        features=compared_features,
    output:
        **analysis_outputs("Synthesis"),
    log:
        logfile("compare_synthesis", "{analysis}"),
    benchmark:
        timing("compare_synthesis", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("synthesis-comparison")),
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(3000, per_input_mb=2),
        runtime=minutes(240),
    params:
        settings=settings("compare_synthesis"),
        code=code("compare_synthesis"),
        root=results_root,
    script:
        "../scripts/compare_synthesis.py"


rule detectability:
    input:
        profiles=compared_profiles,
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: compared_splits(wildcards)[0],
        ledgers=compared_ledgers,
    output:
        **analysis_outputs("Synthesis"),
    log:
        logfile("detectability", "{analysis}"),
    benchmark:
        timing("detectability", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("detectability")),
    conda:
        "../../envs/torch.yaml"
    threads: lambda wildcards: study.analyses[wildcards.analysis].threads
    resources:
        mem_mb=memory(3000, per_input_mb=2),
        runtime=minutes(240),
    params:
        settings=settings("detectability"),
        code=code("detectability"),
        root=results_root,
    script:
        "../scripts/detectability.py"


# What the other analyses of synthesis models found, in one table.
rule summarise_synthesis:
    input:
        metrics=summarised("metrics.json"),
        manifests=summarised("manifest.tsv"),
        ledgers=summarised("ledger.json"),
    output:
        **analysis_outputs("Synthesis"),
    log:
        logfile("summarise_synthesis", "{analysis}"),
    benchmark:
        timing("summarise_synthesis", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("synthesis-summary")),
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500),
        runtime=minutes(15),
    params:
        settings=settings("summarise_synthesis"),
        code=code("summarise_synthesis"),
        root=results_root,
    script:
        "../scripts/summarise_synthesis.py"


# The generators run again, on few scans.
rule probe_synthesis:
    input:
        source=fidelity_source,
        also=fidelity_further,
        target=fidelity_target,
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.synthesis[fidelity_model(wildcards)].split),
        weights=lambda wildcards: result(f"models/{fidelity_model(wildcards)}/{MAIN}/weights.safetensors"),
        ledgers=lambda wildcards: ledgers([fidelity_model(wildcards)]),
        held=held("probe_synthesis", "analysis"),
    output:
        **analysis_outputs("Synthesis"),
    log:
        logfile("probe_synthesis", "{analysis}"),
    benchmark:
        timing("probe_synthesis", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("synthesis-probe")),
    conda:
        "../../envs/torch.yaml"
    threads: lambda wildcards: study.synthesis[fidelity_model(wildcards)].threads
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
        gpu=1,
    params:
        settings=settings("probe_synthesis"),
        code=code("probe_synthesis"),
        root=results_root,
    script:
        "../scripts/probe_synthesis.py"


rule feature_shift:
    input:
        before=lambda wildcards: feature_table(study.analyses[wildcards.analysis].before),
        after=lambda wildcards: feature_table(study.analyses[wildcards.analysis].after),
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=shifted_split,
        ledgers=shifted_ledgers,
    output:
        **analysis_outputs("Synthesis"),
    log:
        logfile("feature_shift", "{analysis}"),
    benchmark:
        timing("feature_shift", "{analysis}")
    wildcard_constraints:
        analysis=any_of(analyses_of("feature-shift")),
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=2),
        runtime=minutes(60),
    params:
        settings=settings("feature_shift"),
        code=code("feature_shift"),
        root=results_root,
    script:
        "../scripts/feature_shift.py"
