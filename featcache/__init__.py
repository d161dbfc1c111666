"""Turn raw items into features on disk: sources give items, encoders features, a store keeps them.

A store is keyed by everything that changes a number in it, written one atomic shard at a time,
and readable with plain Zarr or HDF5 tools. The files beside the rooms are the nouns that all of
lightalign shares: types, errors, specs, registries, safe files. Nothing here knows of adapters,
training or commands.
"""
