"""Gates: protocol messages to facts, decisions and actions. No I/O here: the relay executes."""
