# Feature sets: extracted from a view and a mask source, imported from tables, joined, harmonised across
# batches, or reduced to stable features.

SETS = {
    kind: any_of(name for name, features in study.features.items() if isinstance(features, kind))
    for kind in (RadiomicsSet, ImportedSet, JoinedSet, HarmonisedSet, SelectedSet)
}


rule extract:
    input:
        view=lambda wildcards: view_manifest(study.features[wildcards.set].view, MAIN, wildcards.shard),
        volumes=result("volumes/{shard}.tsv"),
        masks=extracted_masks,
        held=held("extract", "set"),
    output:
        features=result("features/{set}/{shard}.parquet"),
    log:
        logfile("extract", "{set}", "{shard}"),
    benchmark:
        timing("extract", "{set}", "{shard}")
    wildcard_constraints:
        set=SETS[RadiomicsSet],
    conda:
        "../../envs/radiomics.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(4000),
        runtime=minutes(240),
    params:
        settings=settings("extract"),
        code=code("extract"),
        root=results_root,
    script:
        "../scripts/extract.py"


rule merge_features:
    input:
        shards=expand(result("features/{{set}}/{shard}.parquet"), shard=study.shards),
    output:
        features=feature_table("{set}"),
    log:
        logfile("merge_features", "{set}"),
    benchmark:
        timing("merge_features", "{set}")
    wildcard_constraints:
        set=SETS[RadiomicsSet],
    conda:
        "../../envs/radiomics.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=5),
        runtime=minutes(10),
    params:
        settings=settings("merge_features"),
        code=code("merge_features"),
    script:
        "../scripts/merge_features.py"


rule merge_perturbed:
    input:
        shards=expand(result("features/{{set}}/{shard}.parquet"), shard=study.shards),
    output:
        features=perturbed_table("{set}"),
    log:
        logfile("merge_perturbed", "{set}"),
    benchmark:
        timing("merge_perturbed", "{set}")
    wildcard_constraints:
        set=SETS[RadiomicsSet],
    conda:
        "../../envs/radiomics.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=5),
        runtime=minutes(10),
    params:
        settings=settings("merge_perturbed"),
        code=code("merge_perturbed"),
    script:
        "../scripts/merge_perturbed.py"


rule import_features:
    input:
        tables=lambda wildcards: [path for path, _ in study.features[wildcards.set].files],
        patients=result("cohort/patients.tsv"),
        key=private("fingerprint.sha256"),
    output:
        features=feature_table("{set}"),
        ledger=result("models/{set}/main/ledger.json"),
    log:
        private_log("import_features", "{set}"),
    benchmark:
        timing("import_features", "{set}")
    wildcard_constraints:
        set=SETS[ImportedSet],
    conda:
        "../../envs/radiomics.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=20),
        runtime=minutes(10),
    params:
        settings=settings("import_features"),
        code=code("import_features"),
        salt=private("salt"),
    script:
        "../scripts/import_features.py"


rule join_features:
    input:
        features=lambda wildcards: [feature_table(name) for name in study.features[wildcards.set].of],
    output:
        features=feature_table("{set}"),
    log:
        logfile("join_features", "{set}"),
    benchmark:
        timing("join_features", "{set}")
    wildcard_constraints:
        set=SETS[JoinedSet],
    conda:
        "../../envs/radiomics.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=20),
        runtime=minutes(10),
    params:
        settings=settings("join_features"),
        code=code("join_features"),
    script:
        "../scripts/join_features.py"


rule harmonise:
    input:
        features=lambda wildcards: feature_table(study.features[wildcards.set].of),
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.features[wildcards.set].split),
        phantom=phantom_features,
        ledgers=set_upstream,
    output:
        features=feature_table("{set}"),
        model=result("models/{set}/main/parameters.json"),
        ledger=result("models/{set}/main/ledger.json"),
    log:
        logfile("harmonise", "{set}"),
    benchmark:
        timing("harmonise", "{set}")
    wildcard_constraints:
        set=SETS[HarmonisedSet],
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=20),
        runtime=minutes(30),
    params:
        settings=settings("harmonise"),
        code=code("harmonise"),
    script:
        "../scripts/harmonise.py"


rule select_features:
    input:
        features=lambda wildcards: feature_table(study.features[wildcards.set].of),
        stable=lambda wildcards: result(f"analyses/{study.features[wildcards.set].stable}/stable.tsv"),
        ledger=lambda wildcards: result(f"analyses/{study.features[wildcards.set].stable}/ledger.json"),
        upstream=set_upstream,
    output:
        features=feature_table("{set}"),
        ledger=result("models/{set}/main/ledger.json"),
    log:
        logfile("select_features", "{set}"),
    benchmark:
        timing("select_features", "{set}")
    wildcard_constraints:
        set=SETS[SelectedSet],
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=10),
        runtime=minutes(10),
    params:
        settings=settings("select_features"),
        code=code("select_features"),
    script:
        "../scripts/select_features.py"
