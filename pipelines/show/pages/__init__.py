"""What does a browser show of a plan and of a run?"""
