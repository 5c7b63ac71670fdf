"""Adapters to other people's models and their weights. Takes and returns NumPy arrays; knows none of our artifacts."""
