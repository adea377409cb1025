"""What an SQL text does, told from its syntax tree and the catalog of the target."""
