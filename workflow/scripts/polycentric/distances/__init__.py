"""Distances between two sets of images, from features, histograms or spectra. numpy alone; nothing reads a file."""
