"""One joint objective a file; the file name is its key in `[objective]` of a joint preset."""
