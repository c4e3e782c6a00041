"""What does a feature service hold and promise? Read as text, and as Feast objects."""
