"""Does a component or a ranker keep its contract? Base classes of tests for whoever writes one."""
