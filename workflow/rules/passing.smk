# Views whose images do not stay: each job that reads them has a lease, for which images that are gone are made again;
# they are removed when all such jobs have ended. See polycentric.passing.

LEASE = result("views/{view}/{fold}/{shard}.for.{user}.tsv")
REMOVAL = result("views/{view}/{fold}/{shard}.removed.json")
REMOVED = expand(REMOVAL, view=PASSING, fold=MAIN, shard=study.shards)


rule hold_prepared:
    input:
        record=view_manifest("{view}", "{fold}", "{shard}"),
        source=prepared_from,
        masks=view_masks,
        references=view_references,
        minus=view_minus,
        cohort=view_cohort,
        model=view_fit,
        held=held("prepare", "view"),
    output:
        view=temp(LEASE),
    log:
        logfile("hold_prepared", "{view}", "{fold}", "{shard}", "{user}"),
    benchmark:
        timing("hold_prepared", "{view}", "{fold}", "{shard}", "{user}")
    wildcard_constraints:
        view=any_of(name for name in PASSING if not study.views[name].synthesis),
        user=r"[\w-]+",
    conda:
        "../../envs/images.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(3000),
        runtime=minutes(120),
    params:
        settings=settings("prepare"),
        code=code("prepare"),
        root=results_root,
    script:
        "../scripts/prepare.py"


rule hold_synthesized:
    input:
        record=view_manifest("{view}", "{fold}", "{shard}"),
        source=prepared_from,
        also=further_inputs,
        cohort=selecting_tables,
        weights=lambda wildcards: result(f"models/{synthesis_model(wildcards)}/{wildcards.fold}/weights.safetensors"),
        ledger=lambda wildcards: result(f"models/{synthesis_model(wildcards)}/{wildcards.fold}/ledger.json"),
        held=held("synthesize", "view"),
    output:
        view=temp(LEASE),
    log:
        logfile("hold_synthesized", "{view}", "{fold}", "{shard}", "{user}"),
    benchmark:
        timing("hold_synthesized", "{view}", "{fold}", "{shard}", "{user}")
    wildcard_constraints:
        view=any_of(name for name in PASSING if study.views[name].synthesis),
        user=r"[\w-]+",
    conda:
        "../../envs/torch.yaml"
    threads: lambda wildcards: study.synthesis[synthesis_model(wildcards)].threads
    resources:
        mem_mb=memory(8000),
        runtime=minutes(240),
        # a lease alone needs no GPU: only where the images are gone they are made again
        gpu=lambda wildcards: int(Path(REMOVAL.format(**wildcards)).exists()),
    params:
        settings=settings("synthesize"),
        code=code("synthesize"),
        root=results_root,
    script:
        "../scripts/synthesize.py"


rule remove_view:
    input:
        view=view_manifest("{view}", "{fold}", "{shard}"),
        ended=lambda wildcards: [result(path) for path in users.needed_for(study, wildcards.view, wildcards.shard)],
    output:
        record=REMOVAL,
    log:
        logfile("remove_view", "{view}", "{fold}", "{shard}"),
    wildcard_constraints:
        view=any_of(PASSING),
    localrule: True
    conda:
        "../../envs/images.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=minutes(10),
    params:
        settings=settings("remove_view"),
        code=code("remove_view"),
        root=results_root,
    script:
        "../scripts/remove_view.py"
