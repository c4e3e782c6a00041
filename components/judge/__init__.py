"""How good is a ranker, and is its graph the same ranker? Export, calibration, evaluation."""
