"""Former names of modules of images, for one release; a use warns and names the new one."""
