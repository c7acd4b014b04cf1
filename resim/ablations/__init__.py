"""What each choice of the recipe is worth: the variants, their runs, their measures, and the page about them."""
