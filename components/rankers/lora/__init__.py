"""How does a trained ranker adapt by a few numbers? Low-rank changes."""
