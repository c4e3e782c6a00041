"""What answers now, and how does a question become an answer? Versions, rows, features, candidates, counts."""
