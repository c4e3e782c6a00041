"""The `choose_ranker` component."""
