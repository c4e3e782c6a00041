"""The `adapt_ranker` component."""
