"""What may a pipeline say? The schemas that editors read, and the page about the components."""
