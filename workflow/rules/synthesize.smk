# Synthesis: train generators on training patients, make further views with them.


def synthesis_views(wildcards):
    """Manifests of both domains; centres of the external role are not even inputs of a training."""
    model = study.synthesis[wildcards.model]
    return views([model.source.view, model.target.view], study.development_shards, wildcards.fold)


def synthesis_upstream(wildcards):
    model = study.synthesis[wildcards.model]
    names = [*study.models_of_view(model.source.view), *study.models_of_view(model.target.view)]
    return ledgers(dict.fromkeys(names), wildcards.fold)


rule train_synthesis:
    input:
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.synthesis[wildcards.model].split),
        views=synthesis_views,
        ledgers=synthesis_upstream,
    output:
        weights=result("models/{model}/{fold}/weights.safetensors"),
        settings=result("models/{model}/{fold}/settings.json"),
        history=result("models/{model}/{fold}/history.csv"),
        ledger=result("models/{model}/{fold}/ledger.json"),
    params:
        settings=settings("train_synthesis"),
        code=codehash.engine_version("synthesis"),
        root=study.root,
        # undeclared: Snakemake deletes declared outputs before a retry
        work=result("work/{model}/{fold}"),
    log:
        logfile("train_synthesis", "{model}", "{fold}"),
    benchmark:
        timing("train_synthesis", "{model}", "{fold}")
    conda:
        "../../envs/torch.yaml"
    wildcard_constraints:
        model=any_of(study.synthesis),
    retries: 2
    threads: lambda wildcards: study.synthesis[wildcards.model].threads
    resources:
        mem_mb=memory(16000),
        runtime=minutes(1440),
        gpu=1,
    script:
        "../scripts/train_synthesis.py"


def synthesis_model(wildcards):
    return study.views[wildcards.view].synthesis


def selecting_tables(wildcards):
    """The cohort's tables, only where an expression selects scans: else a change of them would concern every shard."""
    where = study.synthesis[synthesis_model(wildcards)].inference.where
    return [result("cohort/scans.tsv"), result("cohort/patients.tsv")] if where else []


rule synthesize:
    input:
        source=prepared_from,
        cohort=selecting_tables,
        weights=lambda wildcards: result(f"models/{synthesis_model(wildcards)}/{wildcards.fold}/weights.safetensors"),
        ledger=lambda wildcards: result(f"models/{synthesis_model(wildcards)}/{wildcards.fold}/ledger.json"),
    output:
        view=view_manifest("{view}", "{fold}", "{shard}"),
    params:
        settings=settings("synthesize"),
        code=code("synthesize"),
        root=study.root,
    log:
        logfile("synthesize", "{view}", "{fold}", "{shard}"),
    benchmark:
        timing("synthesize", "{view}", "{fold}", "{shard}")
    conda:
        "../../envs/torch.yaml"
    wildcard_constraints:
        view=any_of(name for name, view in study.views.items() if view.synthesis),
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
        gpu=1,
    script:
        "../scripts/synthesize.py"
