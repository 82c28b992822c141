"""The training of an objective: the loop, Lightning around it, and every "auto" rule."""
