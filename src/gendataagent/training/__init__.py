"""The classifier: networks, augmentation, training, evaluation, saving."""
