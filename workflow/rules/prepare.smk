# Views: versions of every scan's image by resampling and intensity treatment.


def prepared_from(wildcards):
    return source_manifest(wildcards.view, wildcards.fold, wildcards.shard)


rule prepare:
    input:
        source=prepared_from,
    output:
        view=view_manifest("{view}", "{fold}", "{shard}"),
    params:
        settings=settings("prepare"),
        code=code("prepare"),
        root=study.root,
    log:
        logfile("prepare", "{view}", "{fold}", "{shard}"),
    benchmark:
        timing("prepare", "{view}", "{fold}", "{shard}")
    conda:
        "../../envs/images.yaml"
    wildcard_constraints:
        view=any_of(name for name, view in study.views.items() if not view.synthesis),
    threads: study.workers
    resources:
        mem_mb=memory(3000),
        runtime=minutes(120),
    script:
        "../scripts/prepare.py"
