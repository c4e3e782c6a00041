"""Comparisons: rankers side by side on one training set, over several seeds."""
