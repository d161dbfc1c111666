"""Names of the files of a saved index; `saved_index.py` says what is in them."""

from ...featcache.string_array import files_of

MANIFEST = "index.json"
FAISS = "index.faiss"
CONTENT = (FAISS, *files_of("ids"), *files_of("contents"))  # what the manifest has checksums of
