"""How does a raw feature value become a model input? One code path for training, evaluation and serving."""
