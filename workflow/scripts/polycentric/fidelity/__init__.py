"""Fidelity of synthesis: what a generator changed, and whether that was all. numpy and scipy; tables by pandas."""
