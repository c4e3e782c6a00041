"""The `train_ranker` component."""
