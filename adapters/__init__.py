"""Turn features into embeddings of one shared space: steps make towers, towers make adapters.

Everything here is trainable and light. This floor knows features and the two sides that they
come from, and nothing of files of features, datasets, encoders or commands.
"""
