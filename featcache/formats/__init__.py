"""One container format a file; the file name is the name for `--format`."""
