"""Who may do what on the order port: tokens, roles, client names."""
