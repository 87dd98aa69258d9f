"""Analyses of tables: cohort description, classification, survival. Each entry point is `analyse` of its module."""
