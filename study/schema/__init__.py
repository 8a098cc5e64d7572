"""The parts of a study file: how each is read, and what must hold between them."""
