"""One objective a file; the file name is the `part` of a preset's `[objective]`."""
