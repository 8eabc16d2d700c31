"""What can be learned from shards: one file a task, found by its name."""
