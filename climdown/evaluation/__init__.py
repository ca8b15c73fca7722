"""Judging fields and ensembles."""
