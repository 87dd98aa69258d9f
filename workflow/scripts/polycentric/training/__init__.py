"""Training that resumes bit for bit: patches, checkpoints, the loop. numpy, torch and safetensors alone, but `cohort`."""
