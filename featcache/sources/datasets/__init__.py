"""One dataset family a file; the file name is the name for `--data`.

A file whose name starts with an underscore is a helper of several families, not a dataset.
"""
