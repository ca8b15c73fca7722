"""The downscaling methods, one file each; `registry` lists them."""
