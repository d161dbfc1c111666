"""One encoder backend a file; the file name is the `backend` of an encoder card."""
