"""Small real programs on durable flows; the tests run them."""
