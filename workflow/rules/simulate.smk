# Simulated centres: real DICOM with planted effects and defects, and the truth about them.


rule plan_cohort:
    output:
        clinical=result("simulated/clinical.csv"),
        truth=result("simulated/truth.parquet"),
        effects=result("simulated/effects.json"),
    log:
        logfile("plan_cohort"),
    benchmark:
        timing("plan_cohort")
    conda:
        "../../envs/dicom.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        settings=settings("plan_cohort"),
        code=code("plan_cohort"),
    script:
        "../scripts/plan_cohort.py"


# The DICOM files lie in an undeclared folder; the manifest lists them with their hashes.
rule simulate_centre:
    input:
        truth=rules.plan_cohort.output.truth,
    output:
        manifest=result("simulated/{centre}.tsv"),
    log:
        logfile("simulate_centre", "{centre}"),
    benchmark:
        timing("simulate_centre", "{centre}")
    wildcard_constraints:
        centre=any_of(study.simulated),
    conda:
        "../../envs/dicom.yaml"
    threads: 1
    resources:
        mem_mb=memory(1500),
        runtime=minutes(60),
    params:
        settings=settings("simulate_centre"),
        code=code("simulate_centre"),
        folder=result("simulated/{centre}"),
    script:
        "../scripts/simulate_centre.py"
