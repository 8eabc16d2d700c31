"""What ``mammotrain predict`` is made of: whom to ask, about what, and what is written."""
