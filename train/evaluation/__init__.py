"""What a dual encoder is worth, told by the tasks of the papers; knows nothing of training."""
