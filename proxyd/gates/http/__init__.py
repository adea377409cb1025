"""Deciding about HTTP: where a request goes, what is known of it, what it becomes, what a refusal says. No I/O."""
