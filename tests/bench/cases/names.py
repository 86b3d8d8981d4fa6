"""Names that several comparisons use."""

STACK = "this stack"
