"""The `calibrate_ranker` component."""
