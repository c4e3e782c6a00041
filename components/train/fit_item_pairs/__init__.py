"""The `fit_item_pairs` component."""
