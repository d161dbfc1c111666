"""One head a file; the file name is the `part` of an entry of `[heads]`."""
