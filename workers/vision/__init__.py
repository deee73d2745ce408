"""Former names of modules of :mod:`hpbandster_lite.workers.images`, for one release; a use warns with the new name."""
