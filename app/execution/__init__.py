"""Orders, risk and paper execution: a pure core; imports only the model."""
