"""How starts are typed."""
