"""Image networks, one file a family; layers that two families share are in :mod:`.layers`."""
