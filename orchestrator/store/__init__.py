"""SQL only: each function takes a connection, none commits, none decides."""
