"""One container format a file, beside their contract; the file name is the name for `--format`.

A file whose name starts with an underscore is a helper of several formats.
"""
