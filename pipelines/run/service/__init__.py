"""How does a service start, here or on a Ray cluster, and where does it get what it answers with?"""
