"""mammotrain: training on the shards that mammoprep builds. So far it lists what is coming."""
