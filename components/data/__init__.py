"""How do events become a training set? Contract, features, point-in-time rows."""
