"""The `embed_text` component."""
