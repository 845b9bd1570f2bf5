"""What starts workflows from outside; every trigger ends in `Operations.start`."""
