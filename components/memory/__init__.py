"""How does a champion learn from its errors between trainings? Refresh and study of the error memory."""
