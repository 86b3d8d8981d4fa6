"""What an execution of the paper exchange costs: rules, exact and pure."""
