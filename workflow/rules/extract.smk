# Feature sets: extracted from a view and a mask source, imported from a table, or harmonised across centres.

SETS = {
    kind: any_of(name for name, features in study.features.items() if isinstance(features, kind))
    for kind in (RadiomicsSet, ImportedSet, HarmonisedSet)
}


rule extract:
    input:
        view=lambda wildcards: view_manifest(study.features[wildcards.set].view, MAIN, wildcards.shard),
        volumes=result("volumes/{shard}.tsv"),
        masks=lambda wildcards: mask_manifest(study.features[wildcards.set].masks, MAIN, wildcards.shard),
    output:
        features=result("features/{set}/{shard}.parquet"),
    params:
        settings=settings("extract"),
        code=code("extract"),
        root=study.root,
    log:
        logfile("extract", "{set}", "{shard}"),
    benchmark:
        timing("extract", "{set}", "{shard}")
    conda:
        "../../envs/radiomics.yaml"
    wildcard_constraints:
        set=SETS[RadiomicsSet],
    threads: study.workers
    resources:
        mem_mb=memory(4000),
        runtime=minutes(240),
    script:
        "../scripts/extract.py"


rule merge_features:
    input:
        shards=expand(result("features/{{set}}/{shard}.parquet"), shard=study.shards),
    output:
        features=feature_table("{set}"),
    params:
        settings=settings("merge_features"),
        code=code("merge_features"),
    log:
        logfile("merge_features", "{set}"),
    benchmark:
        timing("merge_features", "{set}")
    conda:
        "../../envs/radiomics.yaml"
    wildcard_constraints:
        set=SETS[RadiomicsSet],
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=5),
        runtime=minutes(10),
    script:
        "../scripts/merge_features.py"


rule import_features:
    input:
        table=lambda wildcards: study.features[wildcards.set].table,
        key=private("salt.sha256"),
    output:
        features=feature_table("{set}"),
    params:
        settings=settings("import_features"),
        code=code("import_features"),
        salt=private("salt"),
    log:
        logfile("import_features", "{set}"),
    benchmark:
        timing("import_features", "{set}")
    conda:
        "../../envs/radiomics.yaml"
    wildcard_constraints:
        set=SETS[ImportedSet],
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=20),
        runtime=minutes(10),
    script:
        "../scripts/import_features.py"


def harmonise_upstream(wildcards):
    return ledgers(study.models_of_features(wildcards.set))


rule harmonise:
    input:
        features=lambda wildcards: feature_table(study.features[wildcards.set].of),
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.features[wildcards.set].split),
        ledgers=harmonise_upstream,
    output:
        features=feature_table("{set}"),
        model=result("models/{set}/main/parameters.json"),
        ledger=result("models/{set}/main/ledger.json"),
    params:
        settings=settings("harmonise"),
        code=code("harmonise"),
    log:
        logfile("harmonise", "{set}"),
    benchmark:
        timing("harmonise", "{set}")
    conda:
        "../../envs/statistics.yaml"
    wildcard_constraints:
        set=SETS[HarmonisedSet],
    threads: 1
    resources:
        mem_mb=memory(1000, per_input_mb=20),
        runtime=minutes(30),
    script:
        "../scripts/harmonise.py"
