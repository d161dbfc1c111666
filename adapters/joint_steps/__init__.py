"""One step that sees both sides a file; the file name is the `part` of a slot of `[joint]`."""
