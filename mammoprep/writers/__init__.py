"""The only layer that creates shards."""
