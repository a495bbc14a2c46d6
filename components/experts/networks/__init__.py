"""The torch modules of the neural experts."""
