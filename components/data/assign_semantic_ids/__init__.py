"""The `assign_semantic_ids` component."""
