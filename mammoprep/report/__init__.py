"""Numbers and thumbnails in, one self-contained HTML file out."""
