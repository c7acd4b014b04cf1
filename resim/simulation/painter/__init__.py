"""A scene and a camera become frames."""
