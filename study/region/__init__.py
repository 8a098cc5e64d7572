"""Where learning converges: a model of the margins over the search space, and what it says."""
