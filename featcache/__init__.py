"""Turn raw items into features on disk: sources give items, encoders features, stores keep them.

A store is keyed by everything that changes a number in it, written one atomic shard at a time, and
readable with plain Zarr or HDF5 tools. This floor knows nothing of adapters, training or commands.
"""
