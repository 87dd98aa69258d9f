# Segmentation: train networks on training patients; each becomes a further mask source.


def segmentation_views(wildcards):
    return views([study.segmentation[wildcards.model].view], study.development_shards, wildcards.fold)


def segmentation_masks(wildcards):
    return masks(study.segmentation[wildcards.model].masks, study.development_shards, wildcards.fold)


def segmentation_upstream(wildcards):
    model = study.segmentation[wildcards.model]
    names = [*study.models_of_view(model.view), *study.models_of_masks(model.masks)]
    return ledgers(dict.fromkeys(names), wildcards.fold)


rule train_segmentation:
    input:
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        split=lambda wildcards: split_table(study.segmentation[wildcards.model].split),
        views=segmentation_views,
        masks=segmentation_masks,
        volumes=volumes(study.development_shards),
        ledgers=segmentation_upstream,
    output:
        weights=result("models/{model}/{fold}/weights.safetensors"),
        settings=result("models/{model}/{fold}/settings.json"),
        history=result("models/{model}/{fold}/history.csv"),
        ledger=result("models/{model}/{fold}/ledger.json"),
    params:
        settings=settings("train_segmentation"),
        code=codehash.engine_version("segmentation"),
        root=study.root,
        work=result("work/{model}/{fold}"),
    log:
        logfile("train_segmentation", "{model}", "{fold}"),
    benchmark:
        timing("train_segmentation", "{model}", "{fold}")
    conda:
        "../../envs/torch.yaml"
    wildcard_constraints:
        model=any_of(study.segmentation),
    retries: 2
    threads: lambda wildcards: study.segmentation[wildcards.model].threads
    resources:
        mem_mb=memory(16000),
        runtime=minutes(1440),
        gpu=1,
    script:
        "../scripts/train_segmentation.py"


rule segment:
    input:
        view=lambda wildcards: view_manifest(study.segmentation[wildcards.model].view, wildcards.fold, wildcards.shard),
        volumes=result("volumes/{shard}.tsv"),
        weights=result("models/{model}/{fold}/weights.safetensors"),
        ledger=result("models/{model}/{fold}/ledger.json"),
    output:
        masks=mask_manifest("{model}", "{fold}", "{shard}"),
    params:
        settings=settings("segment"),
        code=code("segment"),
        root=study.root,
    log:
        logfile("segment", "{model}", "{fold}", "{shard}"),
    benchmark:
        timing("segment", "{model}", "{fold}", "{shard}")
    conda:
        "../../envs/torch.yaml"
    wildcard_constraints:
        model=any_of(study.segmentation),
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
        gpu=1,
    script:
        "../scripts/segment.py"
