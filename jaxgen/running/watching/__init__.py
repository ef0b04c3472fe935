"""TensorBoard and Weights & Biases, fed from the records that the history files hold."""
