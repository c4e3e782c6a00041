"""What is a model that can be asked? Its contract, its open graphs, and the vectors that some of them answer with."""
