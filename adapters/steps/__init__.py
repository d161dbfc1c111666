"""One step a file; the file name is the `part` of a preset table."""
