"""Networks over whole images by a sliding window. numpy and torch alone."""
