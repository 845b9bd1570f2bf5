"""Built-in pure nodes: triggers, transformations, branching, waiting and ending."""
