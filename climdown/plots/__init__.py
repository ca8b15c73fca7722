"""Figures; the only package that uses matplotlib."""
