"""What Label Studio sends and accepts. Nobody else knows its JSON."""
