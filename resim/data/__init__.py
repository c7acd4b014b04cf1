"""The store of clips on disk, video reading, checks of what people bring, the mixture and its order, batches."""
