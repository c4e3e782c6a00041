"""How do rankers come by their weights? Trained, continued, adapted."""
