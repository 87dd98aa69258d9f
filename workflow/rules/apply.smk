# Kept models on feature tables, on request: `snakemake apply`.


rule apply_model:
    input:
        record=applied_record,
        features=applied_features,
        ledgers=applied_ledgers,
        patients=result("cohort/patients.tsv"),
        scans=result("cohort/scans.tsv"),
    output:
        metrics=result("applied/{application}/metrics.json"),
        predictions=result("applied/{application}/predictions.parquet"),
        manifest=result("applied/{application}/manifest.tsv"),
    log:
        logfile("apply_model", "{application}"),
    benchmark:
        timing("apply_model", "{application}")
    wildcard_constraints:
        application=any_of(study.apply),
    conda:
        "../../envs/statistics.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000, per_input_mb=20),
        runtime=minutes(30),
    params:
        settings=settings("apply_model"),
        code=code("apply_model"),
        models=applied_models,
        root=results_root,
    script:
        "../scripts/apply_model.py"


rule apply:
    input:
        expand(
            result("applied/{application}/predictions.parquet"),
            application=study.apply,
        ),
    localrule: True
