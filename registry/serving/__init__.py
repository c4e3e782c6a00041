"""What does a served model promise, and what does it answer to raw rows?"""
