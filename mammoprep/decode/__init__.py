"""The only layer that looks inside image files: stored bits in, presentation values out."""
