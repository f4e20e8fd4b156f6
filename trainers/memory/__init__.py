"""What a run needs in memory: measured (`resident`, `peak`), and told by its storages without having it (`live`).

`trace` is what came and went, `allocator` what the caching allocator makes of it, `scratch` what kernels take unseen.
"""
