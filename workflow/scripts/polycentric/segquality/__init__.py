"""Quality of segmentation: agreement of two masks. numpy and scipy; tables by pandas."""
