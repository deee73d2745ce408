"""Image data: reading, the fixed split, and augmentation of whole batches on the device."""
