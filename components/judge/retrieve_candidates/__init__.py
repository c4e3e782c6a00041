"""The `retrieve_candidates` component."""
