"""Formulas on arrays: scores, spectra, distances. No files, no grids, no clock."""
