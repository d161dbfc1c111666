"""One encoder backend a file; the file name is the `backend` of an encoder card.

A file whose name starts with an underscore is a helper of several backends.
"""
