"""How do pages and pictures look? What several of them share."""
