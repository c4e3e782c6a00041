"""How does what a stage made come into being, how is it read back unharmed, and when does it go?"""
