"""Models, one file each: the file's name is the name that a recipe uses."""
