"""Exports a trained network to files that run without this package, and checks them on the whole test set.

What is exported takes uint8 images `[batch, height, width, channels]` of the network's input size, and gives the
probabilities `[batch, classes]` as its first output: normalization and class names are inside.
"""
