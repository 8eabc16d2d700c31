"""Synthetic mammograms that look and behave like the real files, in a dataset's own layout."""
