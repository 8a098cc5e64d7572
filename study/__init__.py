"""Studies of convergence: a YAML file in, real trainings, a map of the convergent region out."""
