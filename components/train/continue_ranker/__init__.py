"""The `continue_ranker` component."""
