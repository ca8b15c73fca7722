"""Bias adjustment: quantile delta mapping and optimal transport."""
