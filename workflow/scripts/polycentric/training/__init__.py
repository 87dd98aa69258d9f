"""Training that resumes bit for bit: patches, checkpoints, the loop.

All but `cohort`, which reads tables, needs numpy, torch and safetensors alone.
"""
