"""What figures rest on: ranking, resampling and shortcuts, once for both packages."""
