"""One training-free method a file; the file name is the `part` of a preset's `[fit]`."""
