# Segmentation: train networks on training patients; each becomes a further mask source.


rule train_segmentation:
    input:
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.segmentation[wildcards.model].split),
        views=segmentation_views,
        masks=segmentation_masks,
        imported=imported_weights("segmentation"),
        ledgers=segmentation_upstream,
        held=held("train_segmentation", "model"),
    output:
        weights=result("models/{model}/{fold}/weights.safetensors"),
        settings=result("models/{model}/{fold}/settings.json"),
        history=result("models/{model}/{fold}/history.csv"),
        ledger=result("models/{model}/{fold}/ledger.json"),
    log:
        logfile("train_segmentation", "{model}", "{fold}"),
    benchmark:
        timing("train_segmentation", "{model}", "{fold}")
    wildcard_constraints:
        model=any_of(study.segmentation),
    retries: 2
    conda:
        "../../envs/torch.yaml"
    threads: lambda wildcards: study.segmentation[wildcards.model].threads
    resources:
        mem_mb=memory(16000),
        runtime=minutes(1440),
        gpu=1,
    params:
        settings=settings("train_segmentation"),
        code=codehash.engine_version("segmentation"),
        root=results_root,
        work=result("work/{model}/{fold}"),
    script:
        "../scripts/train_segmentation.py"


rule segment:
    input:
        view=lambda wildcards: view_manifest(study.segmentation[wildcards.model].view, wildcards.fold, wildcards.shard),
        volumes=result("volumes/{shard}.tsv"),
        weights=result("models/{model}/{fold}/weights.safetensors"),
        ledger=result("models/{model}/{fold}/ledger.json"),
        held=held("segment", "model"),
    output:
        masks=mask_manifest("{model}", "{fold}", "{shard}"),
    log:
        logfile("segment", "{model}", "{fold}", "{shard}"),
    benchmark:
        timing("segment", "{model}", "{fold}", "{shard}")
    wildcard_constraints:
        model=any_of(study.segmentation),
    conda:
        "../../envs/torch.yaml"
    threads: lambda wildcards: study.segmentation[wildcards.model].threads
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
        gpu=1,
    params:
        settings=settings("segment"),
        code=code("segment"),
        root=results_root,
    script:
        "../scripts/segment.py"
