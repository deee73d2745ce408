"""Handwritten digits: a convolutional network on real images, its architecture and hyperparameters together."""
