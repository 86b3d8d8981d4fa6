"""What the portfolio shows: a page, JSON, and figures for Prometheus."""
