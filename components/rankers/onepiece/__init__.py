"""A ranker that thinks in steps: a transformer whose candidate reads the context several times."""
