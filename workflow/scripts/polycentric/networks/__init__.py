"""Network modules that synthesis and segmentation share: numpy, torch and safetensors alone."""
