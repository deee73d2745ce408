"""Image networks, one file for each family; :mod:`.layers` has the layers that families share."""
