"""Joint search of network and training for images: spaces, options, training, and the problems made of them."""
