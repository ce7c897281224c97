"""What runs in the peers' own environments, started by ``..environments``: nothing here imports crossfade."""
