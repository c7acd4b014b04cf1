"""What people look at: pages, overlays, tables. Nothing that computes imports it."""
