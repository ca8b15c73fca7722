"""Bias adjustment of files: open, bring to one grid, adjust, write."""
