"""Datasets, files of images, and images as networks take them."""
