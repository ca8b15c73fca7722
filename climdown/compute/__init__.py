"""Where work is done: devices, threads, ranks of a launcher, clusters."""
