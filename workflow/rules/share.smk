# Not part of a run: `snakemake share` writes a de-identified DICOM copy, `snakemake quicklook` a picture of every scan,
# `snakemake export` synthetic images as DICOM, volumes and masks as NRRD.


rule share_shard:
    input:
        shard=result("cohort/shards/{shard}.tsv"),
        files=private("files/{shard}.parquet"),
    output:
        manifest=result("shareable/{shard}.tsv"),
    log:
        private_log("share_shard", "{shard}"),
    benchmark:
        timing("share_shard", "{shard}")
    conda:
        "../../envs/dicom.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(1500),
        runtime=minutes(240),
    params:
        settings=settings("share"),
        code=code("share"),
        root=results_root,
        salt=private("salt"),
    script:
        "../scripts/share.py"


rule share:
    input:
        expand(result("shareable/{shard}.tsv"), shard=study.shards),
    localrule: True


rule quicklook_shard:
    input:
        volumes=result("volumes/{shard}.tsv"),
        masks=[mask_manifest(source, MAIN, "{shard}") for source in study.mask_sources],
        scans=result("cohort/scans.tsv"),
    output:
        manifest=result("quicklook/{shard}.tsv"),
    log:
        logfile("quicklook_shard", "{shard}"),
    benchmark:
        timing("quicklook_shard", "{shard}")
    conda:
        "../../envs/images.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        settings=settings("quicklook"),
        code=code("quicklook"),
        root=results_root,
    script:
        "../scripts/quicklook.py"


rule quicklook:
    input:
        expand(result("quicklook/{shard}.tsv"), shard=study.shards),
    localrule: True


rule export_dicom:
    input:
        view=view_manifest("{view}", "{fold}", "{shard}"),
        files=private("files/{shard}.parquet"),
        scans=result("cohort/scans.tsv"),
        patients=result("cohort/patients.tsv"),
        weights=exported_weights,
    output:
        manifest="{place}/dicom/{view}/{fold}/{shard}.tsv",
    log:
        private_log("export_dicom", "{place}", "{view}", "{fold}", "{shard}"),
    benchmark:
        timing("export_dicom", "{place}", "{view}", "{fold}", "{shard}")
    wildcard_constraints:
        place=any_of(map(re.escape, (study.root, study.private_root))),
        view=any_of(export.view for export in study.dicom_exports),
    conda:
        "../../envs/dicom.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        settings=settings("export_dicom"),
        code=code("export_dicom"),
        root=lambda wildcards: wildcards.place,
        salt=private("salt"),
    script:
        "../scripts/export_dicom.py"


rule export_nrrd:
    input:
        images=exported_images,
        volumes=result("volumes/{shard}.tsv"),
        masks=exported_masks,
    output:
        manifest=result("nrrd/{export}/{shard}.tsv"),
    log:
        logfile("export_nrrd", "{export}", "{shard}"),
    benchmark:
        timing("export_nrrd", "{export}", "{shard}")
    wildcard_constraints:
        export=any_of(name for name, export in study.exports.items() if isinstance(export, NrrdExport)),
    conda:
        "../../envs/dicom.yaml"
    threads: study.workers
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        settings=settings("export_nrrd"),
        code=code("export_nrrd"),
        root=results_root,
    script:
        "../scripts/export_nrrd.py"


rule export:
    input:
        exported,
    localrule: True
