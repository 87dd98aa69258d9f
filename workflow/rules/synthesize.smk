# Synthesis: train generators on training patients, make further views with them.


rule train_synthesis:
    input:
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.synthesis[wildcards.model].split),
        views=synthesis_views,
        imported=imported_weights("synthesis"),
        ledgers=synthesis_upstream,
        held=held("train_synthesis", "model"),
    output:
        weights=result("models/{model}/{fold}/weights.safetensors"),
        settings=result("models/{model}/{fold}/settings.json"),
        history=result("models/{model}/{fold}/history.csv"),
        ledger=result("models/{model}/{fold}/ledger.json"),
        samples=result("models/{model}/{fold}/samples.zip"),
    log:
        logfile("train_synthesis", "{model}", "{fold}"),
    benchmark:
        timing("train_synthesis", "{model}", "{fold}")
    wildcard_constraints:
        model=any_of(study.synthesis),
    retries: 2
    conda:
        "../../envs/torch.yaml"
    # a process for each device
    threads: lambda wildcards: study.synthesis[wildcards.model].threads * study.synthesis[wildcards.model].engine.devices
    resources:
        mem_mb=memory(16000),
        runtime=minutes(1440),
        gpu=lambda wildcards: study.synthesis[wildcards.model].engine.devices,
    params:
        settings=settings("train_synthesis"),
        code=codehash.engine_version("synthesis"),
        root=results_root,
        # undeclared: Snakemake deletes declared outputs before a retry
        work=result("work/{model}/{fold}"),
    script:
        "../scripts/train_synthesis.py"


rule synthesize:
    input:
        source=prepared_from,
        also=further_inputs,
        cohort=selecting_tables,
        weights=lambda wildcards: result(f"models/{synthesis_model(wildcards)}/{wildcards.fold}/weights.safetensors"),
        ledger=lambda wildcards: result(f"models/{synthesis_model(wildcards)}/{wildcards.fold}/ledger.json"),
        held=held("synthesize", "view"),
    output:
        view=view_manifest("{view}", "{fold}", "{shard}"),
    log:
        logfile("synthesize", "{view}", "{fold}", "{shard}"),
    benchmark:
        timing("synthesize", "{view}", "{fold}", "{shard}")
    wildcard_constraints:
        view=any_of(name for name, view in study.views.items() if view.synthesis),
    conda:
        "../../envs/torch.yaml"
    threads: lambda wildcards: study.synthesis[synthesis_model(wildcards)].threads
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
        gpu=1,
    params:
        settings=settings("synthesize"),
        code=code("synthesize"),
        root=results_root,
        keep=stays,
    script:
        "../scripts/synthesize.py"
