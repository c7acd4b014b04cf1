"""The metrics of this field, as functions on arrays."""
