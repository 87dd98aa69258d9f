# Fetch: series of the Imaging Data Commons, by the manifest that was frozen with the study. Where all files are there,
# no network is needed. It runs where snakemake was started, since nodes of a cluster seldom reach the internet.


rule fetch_idc:
    input:
        manifest=frozen_manifest,
    output:
        table=private("idc/{centre}.tsv"),
        files=private("idc/{centre}.parquet"),
    log:
        private_log("fetch_idc", "{centre}"),
    wildcard_constraints:
        centre=any_of([name for name, centre in study.centres.items() if centre.idc]),
    localrule: True
    conda:
        "../../envs/idc.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(1440),
    params:
        settings=settings("fetch_idc"),
        code=code("fetch_idc"),
    script:
        "../scripts/fetch_idc.py"
