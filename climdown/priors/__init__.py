"""Priors: their cards, files and where they are found."""
