"""A run's scores as ``report.json`` and as one self-contained page."""
