"""Where files meet priors: what of an input a run can use, checked."""
