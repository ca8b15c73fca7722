"""The mathematics of sampling: tensors in, tensors out; no files, labels or configuration."""
