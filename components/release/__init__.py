"""How does a graph become a version, and a version the champion?"""
