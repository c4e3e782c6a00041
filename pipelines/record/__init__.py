"""Which runs were there, and what do they still need?"""
