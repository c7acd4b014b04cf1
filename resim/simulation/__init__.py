"""The simulator: seeded scenes, traffic, expert and non-expert drivers, and a painter of frames."""
