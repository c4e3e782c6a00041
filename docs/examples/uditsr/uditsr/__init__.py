"""The ranker `uditsr`: search and feed in one model."""
