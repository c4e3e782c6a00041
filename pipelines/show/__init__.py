"""How are plans, runs and components shown to a person?"""
