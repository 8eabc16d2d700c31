"""What every part shares: errors, schema, geometry, plug-in lookup. No pydicom, no torch."""
