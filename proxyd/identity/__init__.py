"""Who is calling: certificates (and later tokens and keys) turned into a Subject."""
