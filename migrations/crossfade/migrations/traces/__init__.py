"""What runs did, call by call: read from the log, aligned, compared, drawn."""
