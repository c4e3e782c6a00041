"""What may read fields and events by itself, before the heads, in place of encoders and an interaction?"""
