"""How do pages and pictures look? The document and the style that all pages share, and what pictures share."""
