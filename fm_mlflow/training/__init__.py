"""Parts of a training: the model, its checkpoints, what its run contains."""
