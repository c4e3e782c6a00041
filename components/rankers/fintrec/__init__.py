"""FinTRec: a transformer over timed events of several channels, a static context and the candidate.

Katariya et al., "FinTRec: Transformer Based Unified Contextual Ads Targeting and Personalization for Financial
Applications", arXiv 2511.14865. The full text was not at hand: what the abstract says is followed, the details are
those of its predecessor TIMeSynC (arXiv 2410.12825) and of our own making; each module names which.
"""
