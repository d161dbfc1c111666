"""One dataset family a file; the file name is the name for `--data`."""
