# Kept classifiers on feature tables, on request: `snakemake apply`.


def applied_models(wildcards):
    """Files of fitted chains: one, or the members of an ensemble."""
    own = study.apply[wildcards.application]
    if own.file:
        return [own.model]
    analysis, arm, model = own.model.split("/")
    members = (
        study.analyses[analysis].ensembles[model]
        if arm == "ensemble"
        else [f"{arm}/{model}"]
    )
    return [
        result(f"analyses/{analysis}/models/{member.replace('/', '--')}.skops")
        for member in members
    ]


def applied_record(wildcards):
    """Ledger of the analysis that fitted the models; its folder holds their files, too."""
    own = study.apply[wildcards.application]
    if not own.file:
        return result(f"analyses/{own.model.split('/')[0]}/ledger.json")
    folder = Path(own.model).parent
    return str(
        next(
            (
                f / "ledger.json"
                for f in (folder, folder.parent)
                if (f / "ledger.json").exists()
            ),
            folder / "ledger.json",
        )
    )


def applied_ledgers(wildcards):
    name = study.apply[wildcards.application].features
    return ledgers(
        dict.fromkeys([*study.models_of_features(name), *study.fitted_sets(name)])
    )


rule apply_model:
    input:
        record=applied_record,
        features=lambda wildcards: feature_table(
            study.apply[wildcards.application].features
        ),
        ledgers=applied_ledgers,
        patients=result("cohort/patients.tsv"),
    output:
        metrics=result("applied/{application}/metrics.json"),
        predictions=result("applied/{application}/predictions.parquet"),
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
    script:
        "../scripts/apply_model.py"


rule apply:
    input:
        expand(
            result("applied/{application}/predictions.parquet"),
            application=study.apply,
        ),
    localrule: True
