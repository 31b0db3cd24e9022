"""One whole run: data, training, rounds, evaluation, report."""
