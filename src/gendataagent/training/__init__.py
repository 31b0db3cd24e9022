"""The classifier: networks, augmentation, training, measuring."""
