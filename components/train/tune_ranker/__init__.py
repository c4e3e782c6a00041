"""Which values of a ranker's knobs are best on validation? Trials of a typed search space on Ray Tune."""
