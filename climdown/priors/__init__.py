"""Priors: their cards, their files, and the places they come from."""
