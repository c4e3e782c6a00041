"""What a recipe says becomes the table behind a Feast source: its parts, spans of time, and the rows of keys."""
